"""The same photos taught in several ways, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from personalization.evaluation.report import Report

FORGOTTEN = 0.5  # of the way from the class as it was to the subject


@dataclass(frozen=True)
class Comparison:
    """Reports on the same photos, by the name of the way of teaching."""

    reports: Mapping[str, Report]

    def rows(self) -> list[dict[str, Any]]:
        """A row for each: what it learned, forgot, weighs and costs."""
        return [
            {
                "name": name,
                "method": report.concept.method,
                "subject_fidelity": f.balance.subject_share if f else None,
                "prompt_fidelity": f.balance.prompt_share if f else None,
                "drift": f.drift.towards if f else None,
                "strength": f.balance.strength if f else None,
                "size": report.cost.size,
                "seconds": report.cost.seconds,
            }
            for name, report in self.reports.items()
            for f in (report.figures,)
        ]

    @property
    def verdict(self) -> str:
        """Who is ahead on subject and on prompt; what no interval tells apart is not told apart."""
        subject, prompt = self._ahead(0), self._ahead(1)
        if not subject:
            return (
                "Nothing was measured on the same prompts: look at the pictures and judge for "
                "yourself."
            )
        if len(subject) == len(prompt) == len(self.reports):
            return "In subject and in prompt there is no difference between them."
        return (
            f"Nearest to the photos: {_listed(subject)}. Most faithful to the prompt: "
            f"{_listed(prompt)}."
        )

    @property
    def behind(self) -> list[str]:
        """Names of those that are surely behind the best in subject and in prompt: they lose."""
        subject, prompt = self._ahead(0), self._ahead(1)
        if not subject:
            return []
        return [name for name in self.reports if name not in (*subject, *prompt)]

    @property
    def forgetting(self) -> list[str]:
        """Names of those after which the class itself is surely drawn as the subject."""
        measured = [(name, report.figures) for name, report in self.reports.items()]
        return [name for name, f in measured if f and f.drift.towards.low > FORGOTTEN]

    def _ahead(self, which: Literal[0, 1]) -> list[str]:
        """Names of the best by subject (0) or prompt (1) fidelity, and of those not surely worse.

        Compared in pairs, on the prompts that all have.
        """
        # Here and not above: torch takes seconds to import, and a page shows a report without it.
        import torch

        from personalization.evaluation.metrics import interval

        by_prompt = {name: r.figures.by_prompt for name, r in self.reports.items() if r.figures}
        shared = sorted(set.intersection(*map(set, by_prompt.values()))) if by_prompt else []
        if not shared:
            return []
        values = {
            name: torch.tensor([fidelities[prompt][which] for prompt in shared])
            for name, fidelities in by_prompt.items()
        }
        best = max(values, key=lambda name: float(values[name].mean()))
        return [name for name in values if not interval(values[best] - values[name]).low > 0]


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} alike"
