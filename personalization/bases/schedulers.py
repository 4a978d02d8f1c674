"""Schedulers by the names they go by, for those who would not draw with the base's own.

The names are k-diffusion's, matched to diffusers' classes as its documentation does
(https://huggingface.co/docs/diffusers/api/schedulers/overview).
"""

from __future__ import annotations

from typing import Any

from personalization.errors import RecipeError

# Class and options. Sigmas are spaced as the base's own scheduler spaces them, unless the name says
# otherwise; no clipping, which is for pixels.
_DIFFUSION: dict[str, tuple[str, dict[str, Any]]] = {
    "DPM++ 2M": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": False}),
    "DPM++ 2M Karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "DPM++ 2M SDE": (
        "DPMSolverMultistepScheduler",
        {"algorithm_type": "sde-dpmsolver++", "use_karras_sigmas": False},
    ),
    "UniPC": ("UniPCMultistepScheduler", {"use_karras_sigmas": False}),
    "Euler": ("EulerDiscreteScheduler", {"use_karras_sigmas": False}),
    "Euler a": ("EulerAncestralDiscreteScheduler", {}),
    "Heun": ("HeunDiscreteScheduler", {"use_karras_sigmas": False}),
    "DDIM": ("DDIMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
    "LCM": ("LCMScheduler", {"clip_sample": False, "set_alpha_to_one": False}),
}
# The pipelines of flow models pass sigmas of their own, which diffusers' Euler alone takes.
_FLOW: dict[str, tuple[str, dict[str, Any]]] = {
    "Euler": ("FlowMatchEulerDiscreteScheduler", {}),
    "Euler Karras": ("FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "Euler exponential": ("FlowMatchEulerDiscreteScheduler", {"use_exponential_sigmas": True}),
}


def _known(module: str) -> dict[str, tuple[str, dict[str, Any]]]:
    return _DIFFUSION if module == "unet" else _FLOW


def names(module: str) -> tuple[str, ...]:
    """What can be chosen for bases that the file of this name in bases/ loads."""
    return tuple(_known(module))


def check(module: str, name: str | None) -> None:
    """Refuse a scheduler that these bases cannot be drawn with. Raises `RecipeError`."""
    if name and name not in _known(module):
        raise RecipeError(
            f"The scheduler “{name[:40]}” is not for this base. It can be drawn with "
            f"{', '.join(_known(module))}, or with its own.",
            field="scheduler",
        )


def fresh(like: Any, module: str, name: str | None = None) -> Any:
    """A scheduler of that name for a base that comes with `like`; without a name, one as that is.

    Always a new one: a scheduler keeps state while it samples. Raises `RecipeError`.
    """
    if not name:
        return type(like).from_config(like.config)
    check(module, name)
    import diffusers  # takes seconds, and the names are wanted before

    kind, options = _known(module)[name]
    return getattr(diffusers, kind).from_config(like.config, **options)
