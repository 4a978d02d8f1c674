"""What to draw, and how: everything that decides a picture but the base and the stack."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from personalization.bases.catalog import Task
from personalization.errors import RecipeError

MAX_COUNT = 16
MAX_PROMPT = 2000  # characters
SEEDS = 2**32  # 0 to SEEDS - 1
STEPS = (1, 200)
GUIDANCE = (0.0, 30.0)
STRENGTH = (0.05, 1.0)
FAST_GUIDANCE = 2.0  # at more, what was distilled burns


@dataclass(frozen=True)
class Settings:
    """What to draw, and how. None stands for the base's own."""

    prompt: str = ""
    negative: str = ""
    seed: int = 0
    count: int = 1  # pictures, at seed, seed + 1, ...
    steps: int | None = None
    guidance: float | None = None
    scheduler: str | None = None  # see `bases.schedulers`
    width: int | None = None
    height: int | None = None
    task: Task = "text"
    strength: float = 0.6  # of image and inpaint: how much of the schedule is run
    fast: bool = False  # in a few steps, by the base's LoRA for it; see `sampling.fast`
    # Looked at and not kept: decoded by the base's small autoencoder, where that is quicker.
    draft: bool = False

    @property
    def seeds(self) -> list[int]:
        """One for each picture; after the last there is comes 0."""
        return [(self.seed + i) % SEEDS for i in range(self.count)]

    def size(self, own: int) -> tuple[int, int]:
        """Width and height, on a base whose own side is that many pixels."""
        return self.width or own, self.height or own

    def check(self) -> Settings:
        """Return self, or raise `RecipeError` with the setting and its limits."""
        self._check_prompts()
        limits: list[tuple[str, float | None, float, float]] = [
            ("number of pictures", self.count, 1, MAX_COUNT),
            ("seed", self.seed, 0, SEEDS - 1),
            ("steps", self.steps, *STEPS),
            ("guidance", self.guidance, *GUIDANCE),
            ("strength", self.strength, *STRENGTH),
        ]
        for name, value, low, high in limits:
            if value is not None and not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value:g}; it must lie between {low:g} and {high:g}.", field=name
                )
        if self.fast and (self.guidance or 0) > FAST_GUIDANCE:
            raise RecipeError(
                f"guidance is {self.guidance:g}; drawn fast it must lie between 0 and "
                f"{FAST_GUIDANCE:g}.",
                field="guidance",
            )
        return self

    def _check_prompts(self) -> None:
        if not self.prompt.strip():
            raise RecipeError("The prompt is empty: say what to draw.", field="prompt")
        for name, text in (("prompt", self.prompt), ("negative", self.negative)):
            if len(text) > MAX_PROMPT:
                raise RecipeError(
                    f"{name} has {len(text)} characters; at most {MAX_PROMPT} are taken.",
                    field=name,
                )


@dataclass(frozen=True)
class Start:
    """What "image" and "inpaint" start from.

    `mask` is white where "inpaint" draws; `key` is what the visitor's workspace finds it by again.
    """

    image: Image.Image
    mask: Image.Image | None = None
    key: str = ""
