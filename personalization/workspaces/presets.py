"""A visitor's presets: recipes under names of their own, each a file that any form can load."""

from __future__ import annotations

from itertools import chain, count
from pathlib import Path

from personalization.errors import RecipeError
from personalization.files import on_disk, write_atomically
from personalization.recipe import Recipe
from personalization.workspaces.library import slug

SUFFIX = ".json"
MAX_FILE = 64 * 1024  # bytes: a recipe has a thousand


class Presets:
    """The presets in `folder`."""

    def __init__(self, folder: Path):
        self.folder = folder

    def names(self) -> list[str]:
        """In alphabetical order."""
        paths = (path for path in self.folder.glob(f"*{SUFFIX}") if not path.is_symlink())
        return sorted(path.stem for path in paths)

    def keep(self, title: str, recipe: Recipe) -> str:
        """Keep a recipe under a free name made of `title`; returns the name."""
        first, taken = slug(title), set(self.names())
        names = chain([first], (f"{first}-{number}" for number in count(2)))
        name = next(free for free in names if free not in taken)
        with on_disk():
            write_atomically(self.folder / f"{name}{SUFFIX}", recipe.to_json())
        return name

    def get(self, name: str) -> Recipe:
        """The recipe of that name. Raises `RecipeError` where there is none, or a damaged one."""
        if name not in self.names():
            raise RecipeError(
                f"There is no preset “{name[:40]}”. It may have been deleted: choose another.",
                field="preset",
            )
        with (self.folder / f"{name}{SUFFIX}").open("rb") as file:
            return Recipe.from_json(file.read(MAX_FILE).decode(errors="replace"))
