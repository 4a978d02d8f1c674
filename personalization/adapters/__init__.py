"""One self-describing file, what it changes, and how others write theirs."""
