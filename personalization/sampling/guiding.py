"""A base that draws with a reference picture or a structure map, for a while.

    with applied(base, stack), guided(base, Guides(reference), guidance=4.0):
        pictures = draw_each(base, prompts, seeds)

Neither touches a weight of the base: an IP-Adapter (Ye et al. 2023, arXiv 2308.06721) adds an
attention to what an image encoder sees, a T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) or a
ControlNet (Zhang et al. 2023, arXiv 2302.05543) adds features. They are handed to the UNet itself,
so any pipeline draws with them: from text, from a picture, a part of one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from personalization.bases import guide_loading as loading
from personalization.bases.base import Base
from personalization.bases.guides import (
    LOOKS_ITSELF,
    REFERENCES,
    ReferenceSpec,
    reference_spec,
)
from personalization.errors import PersonalizationError, RecipeError
from personalization.sampling.guides import Guides, Reference, Structure
from personalization.sampling.looking import looking
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
            undo.enter_context(_structured(base, guides.structure, guidance > 1))
        yield


@contextmanager
def _referring(base: Base, reference: Reference, doubled: bool) -> Iterator[None]:
    if base.spec.family in LOOKS_ITSELF:
        with looking(base, reference.pictures):
            yield
        return
    unet: Any = base.denoiser
    adapter = loading.reference_adapter(base, reference_spec(base.spec.family, reference.by))
    states, nothing = adapter.states(reference.pictures)
    before = unet.attn_processors, unet.encoder_hid_proj, unet.config.encoder_hid_dim_type
    try:
        unet._load_ip_adapter_weights([adapter.weights], low_cpu_mem_usage=False)
        _weigh(unet, adapter.spec, reference)
        with _read_once(unet), answering(unet, _seeing(unet.forward, states, nothing, doubled)):
            yield
    finally:
        processors, projection, kind = before
        unet.encoder_hid_proj = projection  # whose own attentions are counted among the processors
        unet.set_attn_processor(dict(processors))
        unet.register_to_config(encoder_hid_dim_type=kind)


def _weigh(unet: Any, spec: ReferenceSpec, reference: Reference) -> None:
    """Give each attention the reference's weight, or none where it does not reach."""
    blocks = {"all": ("",), "style": spec.style, "layout": spec.layout}[reference.reach]
    for name, processor in unet.attn_processors.items():
        if hasattr(processor, "to_k_ip"):
            reached = any(name.startswith(block) for block in blocks)
            processor.scale = [reference.weight if reached else 0.0]


@contextmanager
def _read_once(unet: Any) -> Iterator[None]:
    """What the reference becomes on its way into each attention is the same at every step."""
    read = [unet.encoder_hid_proj]
    for processor in unet.attn_processors.values():
        read += [*getattr(processor, "to_k_ip", ()), *getattr(processor, "to_v_ip", ())]
    with ExitStack() as undo:
        for module in read:
            undo.enter_context(answering(module, _kept(module.forward)))
        yield


def _kept(forward: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The call, which for what it was asked last says the same again."""
    last: list[Any] = []

    def kept(asked: Any) -> Any:
        if not last or last[0] is not asked:
            last[:] = asked, forward(asked)
        return last[1]

    return kept


def _seeing(
    forward: Callable[..., Any], states: Tensor, nothing: Tensor, doubled: bool
) -> Callable[..., Any]:
    """The UNet's call with what the encoder saw.

    states, nothing: (pictures, ...) of the references, and of no picture in their place.
    """

    seen: dict[int, list[Tensor]] = {}

    def seeing(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        if len(sample) not in seen:
            count = len(sample) // 2 if doubled else len(sample)
            rows = states[None].expand(count, *states.shape)
            if doubled:
                rows = torch.cat([nothing[None].expand_as(rows), rows])
            seen[len(sample)] = [rows.to(sample)]
        added = kwargs.pop("added_cond_kwargs", None) or {}
        added = {**added, "image_embeds": seen[len(sample)]}
        return forward(sample, *args, added_cond_kwargs=added, **kwargs)

    return seeing


Added = Callable[..., dict[str, Any]]
"""added(sample, timestep, hidden, more): what the UNet is given with a call of it."""


@contextmanager
def _structured(base: Base, structure: Structure, doubled: bool) -> Iterator[None]:
    unet: Any = base.denoiser
    spec = structure.spec(base.spec)
    adapter = loading.structure_adapter(base, spec)
    maps = _Maps(base, adapter, structure)
    if spec.way == "controlnet":
        added = _controlled(maps, structure.weight)
    else:
        added = _featured(maps, structure.weight, skips=doubled and spec.prompted)
    last = loading.noise_steps(base) * (1 - structure.until)
    with answering(unet, _following(unet.forward, added, last)):
        yield


def _following(forward: Callable[..., Any], added: Added, last: float) -> Callable[..., Any]:
    """The UNet's call with what the map adds, while the step's noise is above `last`."""

    def following(sample: Tensor, timestep: Any, encoder_hidden_states: Tensor, **kw: Any) -> Any:
        if float(torch.as_tensor(timestep).max()) >= last:
            more = kw.get("added_cond_kwargs")
            kw |= added(sample, timestep, encoder_hidden_states, more)
        return forward(sample, timestep, encoder_hidden_states=encoder_hidden_states, **kw)

    return following


class _Maps:
    """The map as the adapter takes it, made once for each size that is drawn: (1, c, h, w)."""

    def __init__(self, base: Base, adapter: nn.Module, structure: Structure) -> None:
        self.base, self.adapter, self.structure = base, adapter, structure
        self.by_size: dict[tuple[int, int], Tensor] = {}

    def like(self, sample: Tensor) -> Tensor:
        """Of the size of these latents, (n, ., h, w), on their device."""
        pixels = loading.pixels_per_latent(self.base)
        height, width = (side * pixels for side in sample.shape[2:])
        if (width, height) not in self.by_size:
            made = map_of(self.base, self.structure, (width, height))
            self.by_size[width, height] = loading.map_tensor(made, self.adapter).to(sample)
        return self.by_size[width, height]


def _featured(maps: _Maps, weight: float, *, skips: bool) -> Added:
    """A T2I-Adapter reads the map once, whatever the step.

    skips: of a batch that comes twice, the half without the prompt, which is first.
    """
    read: dict[torch.Size, list[Tensor]] = {}

    def added(sample: Tensor, *_: Any) -> dict[str, Any]:
        pixels = maps.like(sample)
        if pixels.shape not in read:
            read[pixels.shape] = loading.fitted(maps.base.denoiser, maps.adapter(pixels))
        weights = sample.new_full((len(sample), 1, 1, 1), weight)
        weights[: len(sample) // 2 if skips else 0] = 0
        return {
            "down_intrablock_additional_residuals": [weights * each for each in read[pixels.shape]]
        }

    return added


def _controlled(maps: _Maps, weight: float) -> Added:
    """A ControlNet reads it at each step, beside the latents and the prompt."""
    adapter: Any = maps.adapter

    def added(sample: Tensor, timestep: Any, hidden: Tensor, more: Any) -> dict[str, Any]:
        # Without what the UNets of inpainting see beside the latents.
        latents = sample[:, : adapter.config.in_channels]
        pixels = maps.like(sample)
        down, middle = adapter(
            latents,
            timestep,
            encoder_hidden_states=hidden,
            controlnet_cond=pixels.expand(len(sample), *pixels.shape[1:]),
            conditioning_scale=weight,
            added_cond_kwargs=more,
            return_dict=False,
        )
        return {
            "down_block_additional_residuals": down,
            "mid_block_additional_residual": middle,
        }

    return added


def map_of(base: Base, structure: Structure, size: tuple[int, int]) -> Image.Image:
    """The map that is followed, in that size, (width, height).

    Raises `PersonalizationError` where it has another shape or cannot be made, `BaseError` where
    what makes it cannot be had.
    """
    picture = structure.fitted(size)
    return picture if structure.is_map else loading.map_maker(base, structure.kind)(picture)


def usable(base: Base, guides: Guides, size: tuple[int, int]) -> tuple[Guides, list[str]]:
    """What of the guides can be had here, and a sentence for each that cannot.

    So the rest of a stack is drawn. size: (width, height), that is drawn. Raises `RecipeError` for
    a setting that is out of range.
    """
    missing: list[str] = []
    with base.lock:
        for part in ("reference", "structure"):
            alone = Guides(**{part: getattr(guides, part)})
            try:
                _get(base, alone, size)
            except RecipeError:
                raise
            except PersonalizationError as error:
                missing.append(str(error))
                guides = replace(guides, **{part: None})
    return guides, missing


def _get(base: Base, guides: Guides, size: tuple[int, int]) -> None:
    """Read what these guides need, so that nothing is missing once the picture is begun."""
    guides.check(base.spec)
    if guides.reference and base.spec.family in REFERENCES:
        spec = reference_spec(base.spec.family, guides.reference.by)
        loading.reference_adapter(base, spec)
    if guides.structure:
        loading.structure_adapter(base, guides.structure.spec(base.spec))
        map_of(base, guides.structure, size)
