"""What a file that does not say what it is tells of itself, by its names, shapes and header."""

from __future__ import annotations

import math
from collections import Counter

from personalization.adapters.adapter import (
    MAX_TRIGGER_WORD,
    MAX_TRIGGER_WORDS,
    Description,
)
from personalization.adapters.formats import family, names, textual_inversion
from personalization.adapters.formats.canonical import VISIBLE_RANK
from personalization.adapters.formats.source import Source, json_object

_METHODS = {"lora_A.weight": "lora", "hada_w1_a": "loha", "lokr_w1": "lokr", "lokr_w1_a": "lokr"}
MAX_TAGS = 2**21  # characters of a list of tags: beyond that no words are taken from it
_MAGNITUDES = ("lora_magnitude_vector", "dora_scale")


def of_stranger(source: Source) -> Description:
    """The description of a file of somebody else's. Raises `AdapterError` for several words."""
    if textual_inversion.detect(source):
        return textual_inversion.described(source)
    shapes, file = source.shapes, source.path.name
    parts = {name: names.stem_and_part(name)[1] for name in shapes}
    method = next((_METHODS[part] for part in parts.values() if part in _METHODS), "lora")
    if any(part in _MAGNITUDES for part in parts.values()):
        method = "dora"
    ranks = Counter(shapes[n][0] for n, part in parts.items() if part in VISIBLE_RANK and shapes[n])
    return Description(
        method,
        family.guess(shapes),
        placeholder_token=textual_inversion.bundled_word(shapes, file),
        rank=ranks.most_common(1)[0][0] if ranks else 0,
        alpha=_alpha(source.metadata.get("ss_network_alpha", "")),
        title=source.path.stem,
        trigger_words=trigger_words(source.metadata),
    )


def trigger_words(metadata: dict[str, str]) -> list[str]:
    """The words that others' headers name: a phrase of its own, or the captions' usual tags.

    ss_tag_frequency: folder to tag to how many captions have it, as sd-scripts writes it.
    """
    phrase = metadata.get("modelspec.trigger_phrase", "").strip()
    if phrase:
        return [word[:MAX_TRIGGER_WORD] for part in phrase.split(",") if (word := part.strip())][
            :MAX_TRIGGER_WORDS
        ]
    counts: Counter[str] = Counter()
    tags = metadata.get("ss_tag_frequency", "")
    for folder in json_object(tags if len(tags) <= MAX_TAGS else "").values():
        for tag, count in folder.items() if isinstance(folder, dict) else ():
            if isinstance(count, int) and tag.strip():
                counts[tag.strip()[:MAX_TRIGGER_WORD]] += count
    return [tag for tag, _ in counts.most_common(MAX_TRIGGER_WORDS)]


def _alpha(text: str) -> float:
    """The number that a header says, 0 for none."""
    try:
        alpha = float(text)
    except ValueError:
        return 0.0
    return alpha if math.isfinite(alpha) and alpha > 0 else 0.0
