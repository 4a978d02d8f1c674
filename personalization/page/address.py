"""What the page's own address asks for: a recorded run, somebody's stack, a place in a frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from personalization.errors import StackError

from .stack_link import StackLink


@dataclass(frozen=True)
class Address:
    """`?embed=true`, `?run=recorded`, `?stack=…`; what else there is means nothing."""

    embedded: bool = False
    recorded: bool = False
    stack: StackLink | None = None
    error: str = ""  # why the stack’s link cannot be followed

    @classmethod
    def of(cls, parameters: Mapping[str, str]) -> Address:
        """A frame without a stack opens on the recorded run."""
        embedded = parameters.get("embed") == "true"
        recorded = parameters.get("run") == "recorded"
        try:
            stack = StackLink.parse(parameters)
        except StackError as error:
            return cls(embedded, error=str(error))
        return cls(embedded, recorded or (embedded and stack is None), stack)

    @property
    def alone(self) -> bool:
        """Whether nothing is shown but the recorded run: who looks at it needs no workspace."""
        return self.embedded and self.recorded


# Before anything is drawn, so that the head of the page does not flash up in a frame.
HEAD = """<script>
if (new URLSearchParams(location.search).get('embed') === 'true')
    document.documentElement.classList.add('embedded');
</script>"""

# The page around a frame is told how high it would be without a scroll bar.
ARRIVED = """() => {
    document.body.classList.add('arrived');
    const tabs = document.querySelector('#tabs');
    if (!document.documentElement.classList.contains('embedded') || parent === window) return;
    const tell = () => {
        const height = Math.ceil(tabs.getBoundingClientRect().bottom + scrollY) + 24;
        parent.postMessage({ personalization: { height } }, '*');
    };
    new ResizeObserver(tell).observe(tabs);
}"""
