"""What the base will not read is said on the page and to programs; what fits is said nothing of."""

from __future__ import annotations

from personalization.page.picture_form import say_unread
from personalization.page.stack_endpoints import AxisRequest, draw_stack, sweep_stack

TABLE = "a small wooden kitchen table with a vase of dried flowers, "
LONG = TABLE * 12 + "<glow> style"


def test_a_prompt_that_is_too_long_says_so_as_it_is_typed() -> None:
    said = say_unread("", LONG, "<glow>", "")
    assert "too long" in said
    assert "&lt;glow&gt; style” is cut off" in said
    assert say_unread("", f"{TABLE}<glow> style", "<glow>") == ""  # in several windows
    assert say_unread("", "a photo of a dog in the snow", "<glow>") == ""
    assert say_unread("", "", "") == ""
    assert "no-such" in say_unread("no-such", LONG)


def test_a_program_is_told_what_was_cut_off() -> None:
    for prompt, told in ((LONG, True), ("a dog", False)):
        _, records = draw_stack([], prompt, steps=1)
        assert [("cut off" in str(record.get("notes"))) for record in records] == [told]


def test_a_sweep_tells_it_of_each_picture() -> None:
    across = AxisRequest(what="prompt", values=["a dog", LONG])
    _, ((short, long),) = sweep_stack([], "a dog", across)
    assert "notes" not in short
    assert "cut off" in long["notes"][0]
