"""Teach a text-to-image model a word, a subject or a style from a handful of photos."""
