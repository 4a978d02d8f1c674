"""How long a run takes here, and how large its file will be: what the page says before it starts.

The time is for the base that is loaded, by passes measured on it; `estimate` computes what a recipe
takes on any base of the catalog.
"""

from __future__ import annotations

from typing import Any

from personalization.bases.base import Base
from personalization.recipe import Full, Recipe, Word

# Seconds before the first step and after the last, and of one pass of one picture forward and back,
# measured on the pocket.
_PACE = {"cpu": (8.0, 0.030), "mps": (6.0, 0.010), "cuda": (6.0, 0.004)}
_DRAWING = 8  # passes that a picture costs
_HEADER = {"word": 1_600, "low_rank": 24_000}  # bytes of a file that are not numbers


def seconds(recipe: Recipe, device: str) -> float:
    """About how long a run takes on "cpu", "cuda" or "mps", first pictures included."""
    start, forward = _PACE.get(device, _PACE["cuda"])
    seen = recipe.batch_size * (2 if recipe.prior else 1)
    passes = 1.0 if isinstance(recipe.method, Word) else 1.2
    pictures = recipe.steps // recipe.preview_every * 3 if recipe.preview_every else 0
    if recipe.prior and recipe.prior.kind == "images":
        pictures += recipe.prior.images
    return start + forward * (recipe.steps * seen * passes + pictures * _DRAWING)


def size(recipe: Recipe, base: Base) -> int | None:
    """About how many bytes the file will have, or None where that cannot be told beforehand."""
    method = recipe.method
    models: list[Any] = [encoder.model for encoder in base.text_encoders]
    widths = [model.get_input_embeddings().weight.shape[-1] for model in models]
    rows = sum(4 * recipe.word.vectors * width for width in widths) if recipe.word else 0
    if isinstance(method, Word):
        return _HEADER["word"] + rows
    if isinstance(method, Full):
        texts = {encoder.name for encoder in base.text_encoders if not method.text_encoder}
        trained = [module for name, module in base.modules.items() if name not in texts]
        return 2 * sum(p.numel() for module in trained for p in module.parameters())
    if method.kind == "lokr":  # by how a width divides into two
        return None
    total = _HEADER["low_rank"] + rows
    pairs = 2 if method.kind == "loha" else 1
    for name, module in base.modules.items():
        is_text = name.startswith("text_encoder")
        if is_text and not method.text_encoder:
            continue
        targets = base.spec.text_targets if is_text else method.targets or base.spec.targets
        for path, layer in module.named_modules():
            if path.endswith(targets) and hasattr(layer, "weight"):
                total += 4 * pairs * method.rank * sum(layer.weight.shape[:2])
    return total
