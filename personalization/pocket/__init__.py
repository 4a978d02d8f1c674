"""The pocket: Stable Diffusion in miniature, trained on a world drawn by code."""
