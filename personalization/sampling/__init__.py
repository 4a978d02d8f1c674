"""Pictures with their records, and grids of them over settings."""
