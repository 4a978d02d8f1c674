"""Several adapters at once: how they combine, and where they meet."""
