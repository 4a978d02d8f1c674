"""``python -m personalization``: see `command_line`."""

import sys

from personalization.command_line import main

if __name__ == "__main__":
    sys.exit(main())
