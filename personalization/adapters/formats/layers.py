"""What a layer is by its name: flat factors do not show whether it is a convolution."""

from __future__ import annotations

from personalization.adapters.module_keys import ModuleKey


def kernel(key: ModuleKey, family: str) -> tuple[int, ...] | None:
    """A convolution's kernel, () for a linear layer, None where a name cannot tell."""
    if key.component == "transformer":
        return None
    last = key.path.rpartition(".")[2]
    if key.component != "unet" or not last.startswith(("conv", "proj_")):
        return ()
    if last.startswith("conv"):
        return (1, 1) if last == "conv_shortcut" else (3, 3)
    if family not in ("sd1", "sd2", "sdxl"):
        return None
    return (1, 1) if family == "sd1" else ()  # use_linear_projection
