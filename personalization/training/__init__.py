"""A run in its folder, and the loop that takes it a step further."""
