"""What is measured: an adapter, the photos that it was made from, and what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from personalization.adapters.adapter import Adapter, Description
from personalization.bases.base import Base
from personalization.data import words
from personalization.data.frames import square
from personalization.data.photos import Photo
from personalization.evaluation.prompts import Prompt, eval_prompts
from personalization.evaluation.report import Cost
from personalization.evaluation.verdict import TrainedConcept
from personalization.training.run import LossRow, Run


@dataclass(frozen=True)
class TrainedAdapter:
    """What is measured: an adapter with the photos that it was made from, and what it cost."""

    adapter: Adapter
    photos: Sequence[Photo]
    cost: Cost
    losses: tuple[LossRow, ...] = ()

    @classmethod
    def of_run(cls, run: Run, adapter: Adapter, base: Base) -> TrainedAdapter:
        """A finished run with what it trained."""
        cost = Cost(
            seconds=run.state.seconds,
            gpu_seconds=run.state.seconds if base.device.type != "cpu" else 0.0,
            memory=run.state.memory,
            size=run.adapter_path.stat().st_size,
            steps=run.state.step,
            device=base.device.type,
            whole=2 * sum(p.numel() for m in base.modules.values() for p in m.parameters()),
        )
        return cls(adapter, with_contents(run), cost, tuple(run.losses()))

    @classmethod
    def of_adapter(cls, adapter: Adapter, photos: Sequence[Photo]) -> TrainedAdapter:
        """An adapter whose run is not here: what it cost is not known but for its size."""
        size = sum(tensor.numel() * tensor.element_size() for tensor in adapter.tensors.values())
        return cls(adapter, tuple(photos), Cost(size=size))

    @property
    def description(self) -> Description:
        """What the adapter's file says of itself."""
        return self.adapter.description

    def squares(self, size: int) -> list[Image.Image]:
        """What pictures are compared with: a square of each photo, around what was learned."""
        followed = self.description.recipe.get("framing") == "subject"
        return [square(photo, size, "subject" if followed else "crop") for photo in self.photos]

    @property
    def is_word(self) -> bool:
        """Whether it is a learned word: with one strength, and no weights changed."""
        return self.description.method == "textual_inversion"

    @property
    def concept(self) -> TrainedConcept:
        """What was taught, as the report says it."""
        about = self.description
        prior = about.recipe.get("prior")
        return TrainedConcept(
            trigger=about.trigger,
            class_noun=about.class_noun,
            kind=about.kind or "object",
            method=about.method,
            rank=about.rank,
            prior=str(prior.get("kind", "")) if isinstance(prior, dict) else "",
        )

    def contents(self, count: int) -> list[str]:
        """What the first `count` photos of a style show, but for the style; [] where one is silent.

        Of other kinds there is a class to ask for.
        """
        if self.concept.kind != "style":
            return []
        said = [photo.caption or "" for photo in self.photos[:count]]
        shown = [words.without(caption, self.description.trigger) for caption in said]
        return shown if all(shown) else []

    def prompts(self, count: int, *, poses: bool) -> list[Prompt]:
        """The first `count` prompts that it is asked for."""
        captions = [photo.caption or "" for photo in self.photos]
        return eval_prompts(self.description, count, captions, poses=poses)


def with_contents(run: Run) -> Sequence[Photo]:
    """The run's photos, those without a caption with what the base says that they show."""
    photos, contents = run.concept.photos, run.contents
    if not contents:
        return photos
    return [replace(p, caption=p.caption or contents.get(i)) for i, p in enumerate(photos)]
