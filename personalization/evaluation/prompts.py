"""What a report asks for: prompts by kind, the first of each kind first, never a training caption.

The same concept is always asked the same, so that two reports compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personalization.adapters.adapter import Description
from personalization.data.concept import Kind

# What a picture is asked for, by kind of prompt; {} is the subject. The first of each kind come
# first. Nothing here is a training caption.
_CONTEXTS = (
    "a photo of {} on the beach",
    "a photo of {} in the snow",
    "a photo of {} in the forest",
    "a photo of {} on the moon",
    "a photo of {} at sunset",
    "a photo of {} in the city",
    "a photo of {} underwater",
)
_WORN = (
    "a photo of {} wearing glasses",
    "a photo of {} wearing a party hat",
    "a photo of {} wearing a scarf",
)
_STYLES = ("a pencil sketch of {}", "a cartoon of {}")
_POSES: dict[str, tuple[str, ...]] = {
    "object": ("a photo of {} seen from above", "a photo of {} lying on its side"),
    "creature": ("a photo of {} jumping", "a photo of {} asleep"),
    "person": ("a photo of {} sitting on a chair", "a photo of {} seen from the side"),
}
_CONTENTS = (
    "a cat on the beach",
    "a house in the snow",
    "a robot in the city",
    "a flower",
    "a boat at sunset",
    "a dog wearing glasses",
    "a mushroom in the forest",
    "a car",
    "a bear wearing a scarf",
    "a bird on the moon",
)
_UNRELATED = (
    "a photo of a red car in the city",
    "a photo of a white rabbit in the snow",
    "a photo of a blue house on the beach",
    "a photo of a yellow flower in the forest",
    "a photo of a green frog",
    "a photo of a brown bear wearing a scarf",
    "a photo of a pink bird at sunset",
    "a photo of a grey robot on the moon",
    "a photo of an orange cat wearing glasses",
    "a pencil sketch of a dog",
    "a photo of a purple mug in a room",
    "a photo of a red boat at sunset",
    "a photo of a striped fish underwater",
)


@dataclass(frozen=True)
class Prompt:
    """The same scene asked of the adapter, by its word, and of the base, by its class."""

    of_subject: str
    of_class: str


def eval_prompts(
    description: Description, count: int, captions: Sequence[str] = (), *, poses: bool = False
) -> list[Prompt]:
    """The first `count` prompts for a concept, taking turns between the kinds of prompt.

    What one of the training `captions` already says is left out. `poses` are asked of bases that
    know any.
    """
    class_noun = description.class_noun or "thing"
    if description.kind == "style":
        style = f", {description.trigger} style" if description.trigger else ""
        prompts = [Prompt(f"{content}{style}", content) for content in _CONTENTS]
    else:
        kind: Kind | str = description.kind or "object"
        groups = [_CONTEXTS, _STYLES, _POSES.get(kind, ()) if poses else ()]
        if kind != "object" or not poses:  # no real mug wears glasses
            groups.insert(1, _WORN)
        name = description.trigger or with_article(class_noun)
        prompts = [
            Prompt(template.format(name), template.format(with_article(class_noun)))
            for template in _in_turns(groups)
            if not any(template.rpartition("{} ")[2] in caption for caption in captions)
        ]
    return prompts[:count]


def unrelated(description: Description, count: int) -> list[str]:
    """Prompts that have nothing to do with the concept."""
    class_noun = description.class_noun.split()[-1:] or ["\0"]
    return [prompt for prompt in _UNRELATED if class_noun[0] not in prompt.split()][:count]


def _in_turns(groups: Sequence[Sequence[str]]) -> list[str]:
    longest = max(len(group) for group in groups)
    return [group[i] for i in range(longest) for group in groups if i < len(group)]


def with_article(class_noun: str) -> str:
    """ "a mug", "an owl"."""
    return f"{'an' if class_noun[:1].lower() in 'aeiou' else 'a'} {class_noun}"
