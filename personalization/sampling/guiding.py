"""A base that draws with a reference picture or a structure map, for a while.

    with applied(base, stack), guided(base, Guides(reference), guidance=4.0):
        pictures = draw_each(base, prompts, seeds)

Neither touches a weight of the base: an IP-Adapter (Ye et al. 2023, arXiv 2308.06721) adds an
attention to what an image encoder sees, a T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) adds
features on the UNet's way down. They are handed to the UNet itself, so any pipeline draws with
them: from text, from a picture, a part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from personalization.bases import guide_loading as loading
from personalization.bases.base import Base
from personalization.bases.guides import ReferenceSpec
from personalization.sampling.guides import Guides, Reference, Structure
from personalization.stacking.application import answering


@contextmanager
def guided(base: Base, guides: Guides, *, guidance: float) -> Iterator[None]:
    """While it lasts, the base draws as the guides say; afterwards it is as it was.

    guidance: with which pictures are drawn; above 1 a batch comes twice, without the prompt first,
    and that half sees no reference either. Raises what `Guides.check` raises, and `HubError`.
    """
    guides.check(base.spec)
    with ExitStack() as undo:
        if guides.reference and guides.reference.weight:
            undo.enter_context(_referring(base, guides.reference, guidance > 1))
        if guides.structure and guides.structure.weight:
            undo.enter_context(_structured(base, guides.structure))
        yield


@contextmanager
def _referring(base: Base, reference: Reference, doubled: bool) -> Iterator[None]:
    unet: Any = base.denoiser
    adapter = loading.reference_adapter(base)
    states, nothing = adapter.states(reference.pictures)
    before = unet.attn_processors, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
    try:
        unet._load_ip_adapter_weights([adapter.weights], low_cpu_mem_usage=False)
        _weigh(unet, adapter.spec, reference)
        with answering(unet, _seeing(unet.forward, states, nothing, doubled)):
            yield
    finally:
        processors, projection, kind = before
        unet.set_attn_processor(dict(processors))
        unet.encoder_hid_proj = projection
        unet.register_to_config(encoder_hid_dim_type=kind)


def _weigh(unet: Any, spec: ReferenceSpec, reference: Reference) -> None:
    """Give each attention the reference's weight, or none where it does not reach."""
    blocks = {"all": ("",), "style": spec.style, "layout": spec.layout}[reference.reach]
    for name, processor in unet.attn_processors.items():
        if hasattr(processor, "to_k_ip"):
            reached = any(name.startswith(block) for block in blocks)
            processor.scale = [reference.weight if reached else 0.0]


def _seeing(
    forward: Callable[..., Any], states: Tensor, nothing: Tensor, doubled: bool
) -> Callable[..., Any]:
    """The UNet's call with what the encoder saw.

    states, nothing: (pictures, ...) of the references, and of no picture in their place.
    """

    def seeing(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        count = len(sample) // 2 if doubled else len(sample)
        rows = states[None].expand(count, *states.shape)
        if doubled:
            rows = torch.cat([nothing[None].expand_as(rows), rows])
        added = {**(kwargs.pop("added_cond_kwargs", None) or {}), "image_embeds": [rows.to(sample)]}
        return forward(sample, *args, added_cond_kwargs=added, **kwargs)

    return seeing


@contextmanager
def _structured(base: Base, structure: Structure) -> Iterator[None]:
    unet: Any = base.denoiser
    adapter = loading.structure_adapter(base, structure.kind)
    with answering(unet, _following(unet.forward, base, adapter, structure)):
        yield


def _following(
    forward: Callable[..., Any], base: Base, adapter: nn.Module, structure: Structure
) -> Callable[..., Any]:
    """The UNet's call with the map's features, while the step's noise is above where they end.

    A map is read once for each size that is drawn.
    """
    by_size: dict[tuple[int, int], list[Tensor]] = {}
    last = loading.noise_steps(base) * (1 - structure.until)

    def features(sample: Tensor) -> list[Tensor]:
        pixels_per_latent = loading.pixels_per_latent(base)
        height, width = (side * pixels_per_latent for side in sample.shape[2:])
        if (width, height) not in by_size:
            pixels = loading.map_tensor(structure.map((width, height)), adapter)
            made = adapter(pixels.to(sample))
            by_size[width, height] = loading.fitted(base.denoiser, made)
        return by_size[width, height]

    def following(sample: Tensor, timestep: Any, *args: Any, **kwargs: Any) -> Any:
        if float(torch.as_tensor(timestep).max()) >= last:
            kwargs["down_intrablock_additional_residuals"] = [
                structure.weight * each.expand(len(sample), *each.shape[1:])
                for each in features(sample)
            ]
        return forward(sample, timestep, *args, **kwargs)

    return following
