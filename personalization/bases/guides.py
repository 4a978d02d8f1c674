"""Adapters that guide a base beside its prompt: where each family's own are found.

For a reference picture an IP-Adapter (Ye et al. 2023, arXiv 2308.06721) with the image encoder that
it was trained on; for a map a T2I-Adapter (Mou et al. 2023, arXiv 2302.08453) or a ControlNet
(Zhang et al. 2023, arXiv 2302.05543). Nothing here loads anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from personalization.bases.catalog import ASSETS, Checkpoint
from personalization.data.maps import MAPS, MapKind
from personalization.errors import PersonalizationError


@dataclass(frozen=True)
class ReferenceSpec:
    """An IP-Adapter's file, its image encoder, and the blocks that carry style and layout.

    A folder as source is on this machine. `patches`: it reads the encoder's states before the last
    layer, and not the pooled vector. The blocks are prefixes of paths in the UNet, which
    InstantStyle (Wang et al. 2024, arXiv 2404.02733) found for SDXL.
    """

    weights: Checkpoint
    file: str
    encoder: Checkpoint
    encoder_folder: str
    style: tuple[str, ...]
    layout: tuple[str, ...]
    patches: bool = True
    name: str = ""  # what it is chosen by, where its family has several

    @property
    def title(self) -> str:
        """What it is, and how it looks."""
        return {
            "": "IP-Adapter Plus: what is where on the picture",
            "plain": "IP-Adapter: the gist of it, from one vector",
            "plus-face": "IP-Adapter Plus Face: a face, and little else",
        }[self.name]


Way = Literal["t2i", "controlnet"]
WAYS: dict[Way, str] = {"t2i": "T2I-Adapter", "controlnet": "ControlNet"}


@dataclass(frozen=True)
class StructureSpec:
    """A T2I-Adapter, or a ControlNet, in diffusers' layout and safetensors.

    `prompted`: only what is drawn with the prompt sees the map, so that guidance strengthens it;
    diffusers' pipelines show it to both.
    """

    weights: Checkpoint
    way: Way = "controlnet"
    prompted: bool = False

    @property
    def title(self) -> str:
        """What it is and where it is from."""
        return f"{WAYS[self.way]}, {self.weights.source.rpartition('/')[2]}"


_HUB = "h94/IP-Adapter"
_REVISION = "018e402774aeeddd60609b4ecdb7e298259dc729"
_H94 = Checkpoint(_HUB, _REVISION, "apache-2.0")
_READERS = {"": "plus", "plain": "", "plus-face": "plus-face"}  # by what the files are called


def _h94(file: str, style: str, layout: str) -> tuple[ReferenceSpec, ...]:
    """The repository's three for a family, by the path of their files; all on its ViT-H."""
    return tuple(
        ReferenceSpec(
            _H94,
            file.format(f"-{called}" if called else ""),
            _H94,
            "models/image_encoder",
            style=(style,),
            layout=(layout,),
            patches=bool(called),
            name=name,
        )
        for name, called in _READERS.items()
    )


REFERENCES: dict[str, tuple[ReferenceSpec, ...]] = {
    "pocket": (
        ReferenceSpec(
            Checkpoint(str(ASSETS / "pocket-reference"), None, "apache-2.0"),
            "ip-adapter.safetensors",
            Checkpoint(str(ASSETS / "pocket-judge"), None, "apache-2.0"),
            "",
            style=("up_blocks",),
            layout=("down_blocks",),
        ),
    ),
    "sd1": _h94("models/ip-adapter{}_sd15.safetensors", "up_blocks.1", "down_blocks.2"),
    "sdxl": _h94(
        "sdxl_models/ip-adapter{}_sdxl_vit-h.safetensors",
        "up_blocks.0.attentions.1",
        "down_blocks.2.attentions.1",
    ),
}
"""By family; the first is taken where none is named."""
LOOKS_ITSELF = ("flux2",)  # families whose own network takes reference pictures, and no weight
READ_REFERENCES = (*REFERENCES, *LOOKS_ITSELF)

_OPENRAIL = "creativeml-openrail-m"
_LLLYASVIEL: dict[MapKind, tuple[str, str]] = {  # ControlNet 1.1
    "edges": ("control_v11p_sd15_canny", "115a470d547982438f70198e353a921996e2e819"),
    "depth": ("control_v11f1p_sd15_depth", "539f99181d33db39cf1af2e517cd8056785f0a87"),
    "lineart": ("control_v11p_sd15_lineart", "8a158f547e031c5b8fbca19ead09a74767ff4db0"),
    "pose": ("control_v11p_sd15_openpose", "9ae9f970358db89e211b87c915f9535c6686d5ba"),
}
_SDXL: dict[MapKind, StructureSpec] = {  # of TencentARC's others no commit is known here
    "edges": StructureSpec(
        Checkpoint(
            "diffusers/controlnet-canny-sdxl-1.0",
            "eb115a19a10d14909256db740ed109532ab1483c",
            "openrail++",
        )
    ),
    "depth": StructureSpec(
        Checkpoint(
            "diffusers/controlnet-depth-sdxl-1.0",
            "17bb97973f29801224cd66f192c5ffacf82648b4",
            "openrail++",
        )
    ),
    "lineart": StructureSpec(
        Checkpoint(
            "TencentARC/t2i-adapter-lineart-sdxl-1.0",
            "5f1f33b049b96fa599f0aa3d77b31dbef5095e97",
            "apache-2.0",
        ),
        "t2i",
    ),
    "pose": StructureSpec(
        Checkpoint(
            "xinsir/controlnet-openpose-sdxl-1.0",
            "23f966cd5cfdd3f7729c903e243d87152162d2b7",
            "apache-2.0",
        )
    ),
}
STRUCTURES: dict[tuple[str, MapKind], tuple[StructureSpec, ...]] = {
    **{
        ("pocket", kind): (
            StructureSpec(Checkpoint(str(folder), None, "apache-2.0"), "t2i", prompted=True),
        )
        for kind in MAPS
        if (folder := ASSETS / "pocket-structure" / kind).is_dir()
    },
    # The T2I-Adapters of SD 1.5 are pickles, which are not read.
    **{
        ("sd1", kind): (StructureSpec(Checkpoint(f"lllyasviel/{name}", revision, _OPENRAIL)),)
        for kind, (name, revision) in _LLLYASVIEL.items()
    },
    **{("sdxl", kind): (spec,) for kind, spec in _SDXL.items()},
}
"""By family and kind of map; the first is taken where none is named."""

DEPTH_MODEL = Checkpoint(
    "depth-anything/Depth-Anything-V2-Small-hf",
    "5426e4f0f36572d16453bbda7a8389317b1bef99",
    "apache-2.0",
)


def maps_for(family: str) -> list[MapKind]:
    """The kinds of map that a base of that family can follow."""
    return [kind for kind in MAPS if (family, kind) in STRUCTURES]


def reference_spec(family: str, name: str = "") -> ReferenceSpec:
    """Who looks at references for that family; of several the first, or the one of that `name`.

    Raises `PersonalizationError` where there is none of that name.
    """
    known = REFERENCES[family]
    for spec in known:
        if spec.name == name:
            return spec
    others = " or ".join(spec.name or "nothing for the usual one" for spec in known)
    raise PersonalizationError(
        f"A reference is read here by {others}, not by “{name[:80]}”.", field="reference"
    )


def structure_spec(family: str, kind: MapKind, source: str = "") -> StructureSpec:
    """Who follows such a map; of several the first, or the one of that `source`.

    Raises `PersonalizationError` where none does.
    """
    known = STRUCTURES.get((family, kind), ())
    for spec in known:
        if source in ("", spec.weights.source):
            return spec
    titles = [spec.weights.source for spec in known]
    raise PersonalizationError(
        f"A map of {kind} is followed by {' or '.join(titles)} here, not by “{source[:80]}”."
        if known
        else f"This base has nothing here that follows a map of {kind}. Take it out, or choose "
        "another map or another base.",
        field="structure",
    )
