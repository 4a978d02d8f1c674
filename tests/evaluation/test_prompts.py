"""Claims about what a report asks for."""

from __future__ import annotations

from personalization.adapters.adapter import Description
from personalization.evaluation.prompts import eval_prompts, unrelated
from tests.support.known import (
    MUG,
)


def test_prompts_take_turns_between_kinds_and_call_the_subject_by_its_word():
    prompts = eval_prompts(MUG, 6)
    assert len({p.of_subject for p in prompts}) == 6
    assert any("beach" in p.of_subject for p in prompts)
    assert any("wearing" in p.of_subject for p in prompts)
    assert any("sketch" in p.of_subject for p in prompts)
    assert all("sks mug" in p.of_subject and "sks" not in p.of_class for p in prompts)
    assert all("a mug" in p.of_class for p in prompts)


def test_what_a_training_caption_says_is_not_asked_for():
    prompts = eval_prompts(MUG, 20, ["sks mug on the beach, wearing a scarf"])
    assert not any("on the beach" in p.of_subject or "scarf" in p.of_subject for p in prompts)


def test_of_a_style_other_contents_are_asked_for():
    style = Description("lora", "tiny", placeholder_token="sks", kind="style")
    assert all(p.of_subject == f"{p.of_class}, sks style" for p in eval_prompts(style, 10))


def test_unrelated_prompts_do_not_name_the_class():
    assert len(unrelated(MUG, 10)) == 10
    assert not any("mug" in prompt for prompt in unrelated(MUG, 13))
