"""A recipe as people read it: each setting by the name that the form gives it, and what it says.

settings_in_words({"steps": 9, "method": {"kind": "lora"}}) -> {"method": "LoRA", "steps": "9"}
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

# By the path in a recipe's file, in the order in which they are said; the others come after them.
NAMES = {
    "method.type": "method",
    "method.kind": "method",
    "steps": "steps",
    "steps done": "steps done",
    "batch_size": "batch",
    "method.learning_rate": "learning rate",
    "method.rank": "rank",
    "method.alpha": "alpha",
    "method.targets": "target modules",
    "method.text_encoder": "text encoder too",
    "method.text_learning_rate": "text learning rate",
    "method.vectors": "vectors",
    "method.initializer_token": "word starts from",
    "method.learned_embedding.vectors": "vectors",
    "method.learned_embedding.initializer_token": "word starts from",
    "method.learned_embedding.learning_rate": "word learning rate",
    "prior.kind": "class kept by",
    "prior.weight": "prior weight",
    "prior.images": "class images",
    "resolution": "photo size",
    "framing": "framing",
    "flip": "mirrored photos too",
    "annotate": "the base looks first",
    "background": "background",
    "warmup": "warm-up",
    "decay": "falling rate",
    "weight_decay": "weight decay",
    "max_grad_norm": "gradient norm",
    "stop_early": "stop when settled",
    "seed": "seed",
    "preview_every": "previews",
    "checkpoint_every": "checkpoints",
    "gradient_checkpointing": "gradient checkpointing",
}
_LEFT_OUT = {"format", "prior.bits", "method.learned_embedding.type"}
_VALUES: dict[str, dict[Any, str]] = {
    "method": {
        "textual_inversion": "textual inversion", "low_rank": "", "full": "full fine-tune",
        "lora": "LoRA", "loha": "LoHa", "lokr": "LoKr", "dora": "DoRA",
    },
    "class kept by": {"images": "class images", "adapter_off": "adapter off"},
    "framing": {"crop": "the square in the middle", "shape": "as they are",
                "subject": "around the subject"},
    "photo size": {0: "the base’s own"},
    "target modules": {"": "the base’s own"},
}  # fmt: skip


def settings_in_words(recipe: dict[str, Any]) -> dict[str, str]:
    """Each setting's name, and its value; what is not set is left out."""
    paths = dict(_flat(recipe))
    places = {path: place for place, path in enumerate(NAMES)}
    said: dict[str, str] = {}
    for path in sorted(paths, key=lambda path: places.get(path, len(places))):
        name = NAMES.get(path) or path.rpartition(".")[2].replace("_", " ")
        if path not in _LEFT_OUT and (value := _said(name, paths[path])):
            said[name] = value
    return said


def method_in_words(method: str) -> str:
    """ "LoRA" of "lora"."""
    return _said("method", method)


def _said(name: str, value: Any) -> str:
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    known = _VALUES.get(name, {}).get(value)
    return str(value) if known is None else known


def _flat(settings: dict[str, Any], within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{within}{key}.")
        else:
            yield f"{within}{key}", value
