"""Long prompts for bases with CLIP: read in windows, whose embeddings are joined.

A UNet attends to any number of embeddings. So a prompt longer than its text encoder's context is
cut between words into pieces that fit, each is encoded as a prompt of its own, and the sequences
stand one after the other, as A1111 and the community's long-prompt pipelines of diffusers have it.
SDXL's pooled embedding is the first window's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from personalization.bases.context import Context, in_windows

MOST = 8  # windows of a prompt; the limit is the time that attention takes

Encoded = tuple[Tensor | None, ...]


def reading_in_windows(
    encode_prompt: Callable[..., Encoded], contexts: Sequence[Context]
) -> Callable[..., Encoded]:
    """A pipeline's `encode_prompt`, which reads long prompts to their end.

    Where all fits one window it is the pipeline's own, called once. Negative prompts get as many
    windows, since the UNet wants both of one length.
    """
    signature = inspect.signature(encode_prompt)

    def encode(*args: Any, **kwargs: Any) -> Encoded:
        given = signature.bind(*args, **kwargs).arguments
        asked = {
            name: [value] if isinstance(value, str) else list(value)
            for name in ("prompt", "negative_prompt")
            if (value := given.get(name)) is not None
        }
        pieces = {
            name: [in_windows(contexts, text)[0] for text in texts] for name, texts in asked.items()
        }
        count = max((len(each) for texts in pieces.values() for each in texts), default=1)
        if count == 1:
            return encode_prompt(*args, **kwargs)
        windows = [
            {
                name: [(each + [""] * count)[number] for each in texts]
                for name, texts in pieces.items()
            }
            for number in range(count)
        ]
        return _joined([encode_prompt(**given | window) for window in windows])

    return encode


def _joined(windows: Sequence[Encoded]) -> Encoded:
    """Sequences one after the other; of what has none, a pooled prompt or nothing, the first."""
    return tuple(
        torch.cat(list(parts), dim=1) if parts[0] is not None and parts[0].dim() == 3 else parts[0]
        for parts in zip(*windows, strict=True)
    )
