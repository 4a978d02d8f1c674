"""What a step of training makes smaller."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from personalization.bases.base import Base
from personalization.methods import Method
from personalization.training import processes
from personalization.training.examples import Examples, Prompts, Samples, Seen
from personalization.training.prior import preservation
from personalization.training.run import Run


def squared_error(prediction: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """(batch,): the mean over each sample of (batch, channels, h, w).

    weights: (batch, 1, h, w), what each place counts; None: all the same.
    """
    errors = (prediction - target).square()
    return (errors if weights is None else errors * weights).flatten(1).mean(1)


class Objective:
    """The losses of each step, by its number.

    Made when nothing has been learned yet, or restored: what a teacher says is then the base's own.
    """

    def __init__(self, base: Base, run: Run, seen: Seen, method: Method, cache: Path):
        self.base = base
        self.size = run.recipe.batch_size
        self.subject = Examples(base, run, seen, with_class_noun=method.uses_class_noun)
        self.prompts = Prompts(base, trained=method.trains_text)
        self.prompts.prepare(self.subject.texts)
        self.prior = preservation(base, run, method, cache)
        if self.prior:
            self.prompts.prepare([self.prior.prompt])

    def losses(self, step: int) -> Tensor:
        """(1,) or (2,): the subject's loss and, weighted, the class's, at `step`.

        Where several processes compute the run, what this one's samples add to them.
        """
        samples = self.subject.at(step)
        share = len(samples) / self.size
        target = self.base.target(samples.latents, samples.noise, samples.u)
        if self.prior is None:
            return share * self._errors(samples, target).mean().unsqueeze(0)
        class_samples, class_target = self.prior.at(step, samples)
        if class_target.shape == target.shape:
            # Subject and class in one forward: half the launches, larger matrices.
            errors = self._errors(samples + class_samples, torch.cat([target, class_target]))
            subject, class_errors = errors[: len(samples)], errors[len(samples) :]
        else:  # a photo in its own shape, and the class as it is drawn
            subject = self._errors(samples, target)
            class_errors = self._errors(class_samples, class_target)
        return share * torch.stack([subject.mean(), self.prior.weight * class_errors.mean()])

    def fixed_batch_loss(self) -> float:
        """The subject's loss on the batch of a step that is never trained on: step -1."""
        with torch.no_grad():
            return processes.total(self.losses(-1))[0].item()

    def _errors(self, samples: Samples, target: Tensor) -> Tensor:
        conditioning = self.prompts(samples.texts).told(samples.sizes)
        prediction = self.base.predict(samples.latents, conditioning, samples.noise, samples.u)
        return squared_error(prediction, target, samples.weights)
