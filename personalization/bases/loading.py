"""Reading a base's weights, and a sentence for each way in which that fails.

A folder, a repository on the Hub or a single .safetensors file; nothing is unpickled.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.loaders.single_file_utils import SingleFileComponentError
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from torch import nn
from transformers.utils import cached_file

from personalization.bases.catalog import CATALOG, TASKS, BaseSpec, Checkpoint, Task
from personalization.errors import AdapterError, BaseError, is_out_of_memory
from personalization.files import read_header

SINGLE = ".safetensors"
# What the libraries raise over a repository, a folder or a file that is not as it should be.
_FAILURES = (
    OSError,
    ValueError,
    RuntimeError,
    SafetensorError,
    SingleFileComponentError,
    HfHubHTTPError,
    httpx.HTTPError,
)
# What it means that one of these is among the causes: the first that fits.
_REASONS: tuple[tuple[tuple[type[BaseException], ...], str], ...] = (
    (
        (GatedRepoError,),
        "{source} is gated: its owner wants its terms accepted first. Accept them at "
        "https://huggingface.co/{source}, sign in with that account (HF_TOKEN), and try again.",
    ),
    (
        (RevisionNotFoundError,),
        "{source} is there, but not in the revision that was asked for: leave it out.",
    ),
    (
        (RepositoryNotFoundError,),
        "There is no repository {source}, or it is private: check its name.",
    ),
    (
        (LocalEntryNotFoundError, OfflineModeIsEnabled, ConnectionError, httpx.TransportError),
        "{source} is not on this machine, and the Hub does not answer: check the network, "
        "and try again.",
    ),
    (
        (SafetensorError,),
        "A file of {source} is damaged or half downloaded: delete it and load again.",
    ),
)
_INPAINTING = {
    "StableDiffusionInpaintPipeline": "StableDiffusionPipeline",
    "StableDiffusionXLInpaintPipeline": "StableDiffusionXLPipeline",
}
_CLASSES = {  # of a pipeline, to the entry of the catalog; StableDiffusionPipeline has two
    "StableDiffusionXLPipeline": "sdxl",
    "StableDiffusion3Pipeline": "sd35-medium",
    "Flux2KleinPipeline": "flux2-klein",
    "ZImagePipeline": "z-image",
}
# What a single file of the family holds, by a name in it and the width of that weight's input.
_INNER = "model.diffusion_model."
_CROSS = f"{_INNER}input_blocks.{{}}.1.transformer_blocks.0.attn2.to_k.weight"
_SINGLE_MARKS = {
    "sd15": (_CROSS.format(1), 768),
    "sd21": (_CROSS.format(1), 1024),
    "sdxl": (_CROSS.format(4), 2048),
    "sd35-medium": (f"{_INNER}joint_blocks.0.context_block.attn.qkv.weight", 1536),
}


def precision(spec: BaseSpec, device: torch.device) -> torch.dtype:
    """What weights are kept in: bfloat16 where the device computes in it, float32 elsewhere.

    bfloat16 has float32's range, so that neither SDXL's autoencoder nor a gradient overflows or
    vanishes in it, as both do in float16. On a CPU a base that is small anyway stays in float32.
    """
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    if device.type == "cpu" and not spec.small and computes_half():
        return torch.bfloat16
    return torch.float32


@cache
def computes_half(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the CPU has instructions for bfloat16; without them it would be slower than float32.

    Linux names them in its list of flags: avx512_bf16 and amx_bf16 on x86, bf16 on ARM. A machine
    without the list is taken for one without them.
    """
    try:
        text = cpuinfo.read_text()
    except OSError:
        return False
    lines = (line for line in text.splitlines() if line.startswith(("flags", "Features")))
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(next(lines, "").split()))


def autocast(module: nn.Module, device: torch.device) -> AbstractContextManager[Any]:
    """Autocast to the precision of `module`'s weights; nothing where that is float32.

    What is trained is kept in float32 beside weights in half precision, and they meet here.
    """
    dtype = next(module.parameters()).dtype
    half = dtype != torch.float32
    return torch.autocast(device.type, dtype=dtype if half else None, enabled=half)


def read(kind: Any, spec: BaseSpec, device: torch.device, **more: Any) -> Any:
    """A pipeline of class `kind` from `spec.source`. Raises `BaseError`."""
    options: dict[str, Any] = {"dtype": precision(spec, device), **more}
    try:
        if spec.source.endswith(SINGLE):
            return _single(kind, spec, options)
        where: dict[str, Any] = {
            "revision": spec.revision,
            "local_files_only": Path(spec.source).is_dir(),
            "token": False if spec.anonymous else None,
        }
        # First the index alone: what the Hub refuses, `from_pretrained` takes for no network.
        kind.load_config(spec.source, **where)
        return kind.from_pretrained(
            spec.source,
            **where,
            low_cpu_mem_usage=True,
            use_safetensors=True,
            **options,
        )
    except (*_FAILURES, MemoryError) as error:
        if is_out_of_memory(error):
            raise BaseError(
                f"{spec.title} does not fit into this machine's memory: choose a smaller base. The "
                "base in use stays."
            ) from error
        raise BaseError(f"{failure_reason(spec.source, error)} The base in use stays.") from error


def unmapped(module: nn.Module) -> None:
    """Give each parameter memory of its own, so that the file that it was read from can go.

    On a CPU a weight as it was read is a part of the file, which stays in memory whole as long as
    one of them is used, beside those that were laid out anew.
    """
    for parameter in module.parameters():
        if parameter.device.type == "cpu":
            parameter.data = parameter.data.clone(memory_format=torch.preserve_format)


def fetched(checkpoint: Checkpoint, name: str) -> Path:
    """A file that goes with a base, from the Hub's cache or the Hub. Raises `BaseError`."""
    try:
        path = cached_file(checkpoint.source, name, revision=checkpoint.revision)
    except _FAILURES as error:
        raise BaseError(failure_reason(checkpoint.source, error)) from error
    return Path(path)


def at_hand(checkpoint: Checkpoint, name: str) -> bool:
    """Whether that file is in the Hub's cache on this machine."""
    try:
        cached_file(checkpoint.source, name, revision=checkpoint.revision, local_files_only=True)
    except _FAILURES:
        return False
    return True


def small_decoder(checkpoint: Checkpoint, like: nn.Module) -> Any:
    """A small autoencoder in the precision and on the device of `like`. Raises `BaseError`."""
    try:
        decoder = AutoencoderTiny.from_pretrained(
            checkpoint.source, revision=checkpoint.revision, use_safetensors=True
        )
    except _FAILURES as error:
        raise BaseError(failure_reason(checkpoint.source, error)) from error
    weight = next(like.parameters())
    return decoder.to(weight.device, weight.dtype).requires_grad_(False).eval()


def recognised(source: str, revision: str | None = None, *, anonymous: bool = False) -> BaseSpec:
    """The catalog's entry for somebody's own checkpoint, pointed at it.

    source: a folder in diffusers' layout, a repository on the Hub, or a single .safetensors file;
    anonymous: whether it is read without the machine's own token, which may see what others may
    not.
    Reads an index or a header, and no weights. Raises `BaseError` for a family that is not known.
    """
    changes: dict[str, Any] = {"source": source, "revision": revision, "licence": "its own licence"}
    if source.endswith(SINGLE):
        name = _family_of_file(Path(source))
        changes |= {"config": CATALOG[name].source, "title": Path(source).stem}
    else:
        name, size, tasks = _family_of_index(source, revision, anonymous)
        changes["tasks"] = tasks
        changes["anonymous"] = anonymous
        changes |= {"size": size or CATALOG[name].size, "title": Path(source).name}
    return replace(CATALOG[name], name=changes["title"], gated=False, **changes)


def keeps_safety_checker(spec: BaseSpec) -> bool:
    """Whether the base's own safety checker is loaded: where it has one, on a Space."""
    return spec.safety_checker and "SPACE_ID" in os.environ


def failure_reason(source: str, error: BaseException) -> str:
    """What a failure to load means, and what to do about it."""
    causes = list(_causes(error))
    if any(getattr(cause, "errno", None) == errno.ENOSPC for cause in causes):
        return (
            f"The disk has no room for {source}: make some, or name a larger disk's folder in "
            "HF_HOME, and load again."
        )
    for kinds, sentence in _REASONS:
        if any(isinstance(cause, kinds) for cause in causes):
            return sentence.format(source=source)
    lines = (line for cause in causes for line in str(cause).strip().splitlines())
    reason = next(lines, type(error).__name__)
    return f"{source} cannot be loaded ({reason[:200]}): is it all there?"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what caused it, and so on to the first."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and following not in seen:
        seen.append(following)
        yield following
        following = following.__cause__ or following.__context__


def _single(kind: Any, spec: BaseSpec, options: dict[str, Any]) -> Any:
    if not hasattr(kind, "from_single_file"):
        raise ValueError("single files of this family are not read: give its repository")
    for missing in ("safety_checker", "requires_safety_checker"):
        options.pop(missing, None)
    config = spec.config or spec.source
    try:
        return kind.from_single_file(
            spec.source, config=config, local_files_only=Path(config).is_dir(), **options
        )
    except KeyError as error:  # by which diffusers' conversion says that a weight is missing
        raise ValueError(f"it has no {error}") from error


def _family_of_file(path: Path) -> str:
    if not path.is_file():
        raise BaseError(f"There is no file {path.name}: check its name.")
    try:
        shapes = read_header(path).shapes
    except AdapterError as error:  # the same header, of another kind of file
        raise BaseError(str(error)) from error
    for name, (key, width) in _SINGLE_MARKS.items():
        if key in shapes and shapes[key][-1] == width:
            return name
    if any("lora_" in name for name in shapes):
        raise BaseError(f"{path.name} is an adapter, not a base: add it to the stack.")
    raise BaseError(f"{path.name} is of no family that is known here: {_known()}.")


def _family_of_index(
    source: str, revision: str | None, anonymous: bool
) -> tuple[str, int | None, tuple[Task, ...]]:
    """The catalog's name, pixels to a side where the denoiser's configuration says so, and what
    the pipeline that it is saved as draws from: an inpainting UNet has nine channels."""
    options: dict[str, Any] = {
        "revision": revision,
        "local_files_only": Path(source).is_dir(),
        "token": False if anonymous else None,
    }
    try:
        index = StableDiffusionPipeline.load_config(source, **options)
        kind = index.get("_class_name", "") if isinstance(index, dict) else ""
        tasks: tuple[Task, ...] = ("inpaint",) if kind in _INPAINTING else TASKS
        kind = _INPAINTING.get(kind, kind)
        if kind == "StableDiffusionPipeline":  # of which there are two, told by their text's width
            unet = UNet2DConditionModel.load_config(source, subfolder="unet", **options)
            name = "sd21" if unet.get("cross_attention_dim") == 1024 else "sd15"
            sample = unet.get("sample_size")
            return name, 8 * sample if sample else None, tasks
    except _FAILURES as error:
        raise BaseError(f"{failure_reason(source, error)} The base in use stays.") from error
    if kind == "Flux2KleinPipeline" and index.get("is_distilled"):
        return "flux2-klein-4-steps", None, tasks
    if kind not in _CLASSES:
        raise BaseError(
            f"{source} is a {kind or 'folder of something else'}; what is known here: {_known()}."
        )
    return _CLASSES[kind], None, tasks


def _known() -> str:
    names = ("sd15", "sd21", *_CLASSES.values())
    return ", ".join(CATALOG[name].title for name in names)
