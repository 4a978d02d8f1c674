"""What the base will not read is said on the page and to programs; what fits is said nothing of."""

from __future__ import annotations

from personalization.page.draw_panel import say_unread
from personalization.page.stack_endpoints import draw_stack

LONG = "a small wooden kitchen table with a vase of dried flowers, <glow> style"


def test_a_prompt_that_is_too_long_says_so_as_it_is_typed() -> None:
    said = say_unread("", LONG, "<glow>", "")
    assert "too long" in said
    assert "&lt;glow&gt; style” is cut off" in said
    assert say_unread("", "a photo of a dog in the snow", "<glow>") == ""
    assert say_unread("", "", "") == ""
    assert "no-such" in say_unread("no-such", LONG)


def test_a_program_is_told_what_was_cut_off() -> None:
    for prompt, told in ((LONG, True), ("a dog", False)):
        _, records = draw_stack([], prompt, steps=1)
        assert [("cut off" in str(record.get("notes"))) for record in records] == [told]
