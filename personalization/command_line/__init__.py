"""The command line: what the page does, on the same run folders and recipe files.

Exit codes: 0, it is done; 1, it cannot be done, and a sentence says why; 2, a wrong call; 130,
interrupted, with what was learned kept.

What takes seconds to import is imported once the arguments are read.
"""

from __future__ import annotations

from personalization.errors import PersonalizationError

from .arguments import build_parser
from .progress import INTERRUPTED, tell

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = build_parser()
    chosen = parser.parse_args(arguments)
    try:
        return chosen.command(chosen, parser) or 0
    except (PersonalizationError, OSError) as error:
        tell(error)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
