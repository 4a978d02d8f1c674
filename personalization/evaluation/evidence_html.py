"""The evidence card as HTML: one file with everything inside. It shows no photo."""

from __future__ import annotations

from personalization.evaluation.evidence import Evidence
from personalization.evaluation.report_html import template

TITLES = (("chosen", "Chosen"), ("rejected", "Rejected"), ("", "Not decided"))


def render(evidence: Evidence) -> str:
    """The page."""
    about = evidence.about
    groups = [(title, evidence.judged(verdict)) for verdict, title in TITLES]  # type: ignore[arg-type]
    return template("evidence.html").render(
        whole=True,
        title=f"Evidence: {about.title or about.trigger}",
        evidence=evidence,
        groups=[(title, judged) for title, judged in groups if judged],
        note=[(name, value) for name, value in evidence.note() if value],
    )
