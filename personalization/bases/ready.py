"""Adapters on the Hub that others made for a base's family: something to stack at a first visit.

Their licences and revisions were read on stored copies of their pages. None has been fetched from
here; a file is described by its header before it is taken, as any other from the Hub.
"""

from __future__ import annotations

from dataclasses import dataclass

from personalization.bases.catalog import CATALOG, LCM, BaseSpec, Checkpoint


@dataclass(frozen=True)
class ReadyAdapter:
    """A file of a repository, and what it does."""

    title: str
    checkpoint: Checkpoint
    file: str
    word: str = ""  # that calls it; "" where it is always there

    @property
    def key(self) -> str:
        """owner/repository/file."""
        return f"{self.checkpoint.source}/{self.file}"


_SDXL = CATALOG["sdxl"]
READY: dict[str, tuple[ReadyAdapter, ...]] = {
    "sd1": (
        ReadyAdapter(
            "Pixel art",
            # Of its revision only the first digits, ab43d9e, could be read: its newest is taken.
            Checkpoint(
                "artificialguybr/pixelartredmond-1-5v-pixel-art-loras-for-sd-1-5",
                None,
                "bespoke-lora-trained-license",
            ),
            "PixelArtRedmond15V-PixelArt-PIXARFK.safetensors",
            "Pixel Art, PIXARFK",
        ),
        ReadyAdapter("LCM-LoRA", LCM["sd1"].lora, "pytorch_lora_weights.safetensors"),
    ),
    "sdxl": (
        ReadyAdapter(
            "Pixel art",
            Checkpoint(
                "nerijs/pixel-art-xl",
                "e597801e6e3691a6abe0146c62fd6c97e94026f5",
                "creativeml-openrail-m",
            ),
            "pixel-art-xl.safetensors",
            "pixel art",
        ),
        ReadyAdapter(
            "Papercut",
            Checkpoint(
                "TheLastBen/Papercut_SDXL",
                "7bcae7cd5e0439da0cf6207da479e7a034292ff1",
                "creativeml-openrail-m",
            ),
            "papercut.safetensors",
            "papercut",
        ),
        ReadyAdapter(
            "Offset noise: darker darks",
            Checkpoint(_SDXL.source, _SDXL.revision, _SDXL.licence),
            "sd_xl_offset_example-lora_1.0.safetensors",
        ),
    ),
}


def ready_for(spec: BaseSpec) -> tuple[ReadyAdapter, ...]:
    """Those for the base's family."""
    return READY.get(spec.family, ())
