"""Photographs that packages carry: those that the pocket's discriminant is fitted on, and others.

    pip download --no-deps -d PACKAGES scikit-image scikit-learn matplotlib ultralytics imgaug \
        insightface scipy==1.9.3
    cd PACKAGES && apt-get download plasma-workspace-wallpapers mate-backgrounds lxqt-themes \
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04

They are read where they lie, and nothing of them is kept but a few figures.
"""

from __future__ import annotations

import bz2
import io
import subprocess
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

import gradio
import numpy as np
from PIL import Image

LARGEST = 1600  # pixels a side, to which wallpapers are brought first

_SKIMAGE = (
    *("astronaut.png", "brick.png", "camera.png", "chelsea.png", "coffee.png", "coins.png"),
    *("grass.png", "gravel.png", "motorcycle_left.png", "rocket.jpg", "retina.jpg"),
    *("hubble_deep_field.jpg", "ihc.png", "moon.png"),
)
_PLASMA = (
    *("BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf"),
    *("Grey", "Kite", "OneStandsOut", "Path", "summer_1am"),
)
_LXQT = (
    *("Butterfly-Kenneth-Wimer.jpg", "Valendas.png", "after-the-rain.jpg", "appleflower.png"),
    *("beam.png", "butterfly.png", "cloud.png", "drop.png", "flowers.png", "fog.jpg"),
    "this-is-not-windows.jpg",
)
_LOMIRI = (
    *("Bridge", "Dragonfly", "Kleiber", "Picture_0B", "Picture_1A", "Wine", "aitzgorri", "free"),
    *("friends", "greentock", "life", "picosdeeuropa", "seeding", "sunset"),
)
FITTED = (
    *(f"skimage/data/{name}" for name in _SKIMAGE),
    *(f"*/wallpapers/{name}/contents/images/2560x1600.jpg" for name in _PLASMA),
    "*/backgrounds/mate/nature/*.jpg",
    *(f"*/lxqt/wallpapers/{name}" for name in _LXQT),
)
COUNTED = (
    *("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"),
    "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    *("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg"),
    "imgaug/quokka.jpg",
    *("insightface/data/images/t1.jpg", "insightface/data/images/Tom_Hanks_54745.png"),
    "scipy/misc/face.dat",
    *(f"*/backgrounds/{name}_by_*.jpg" for name in _LOMIRI),
)
OF_GRADIO = ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")


def photographs(packages: Path, patterns: Iterable[str]) -> dict[str, Image.Image]:
    """Those of that pattern, by their file's name; ends the program where one has none."""
    found: dict[str, Image.Image] = {}
    missing = set(patterns)
    for path, content in _files(packages, frozenset(missing)):
        name = path.split("/")[-4] if path.endswith("/2560x1600.jpg") else Path(path).name
        found[name] = _opened(path, content)
        missing -= {pattern for pattern in missing if fnmatch(path, pattern)}
    if missing:
        raise SystemExit(f"not in the packages: {sorted(missing)}")
    return found


def of_gradio() -> dict[str, Image.Image]:
    """Those of the page's own package."""
    images = Path(gradio.__file__).parent / "media_assets" / "images"
    return {name: Image.open(images / name).convert("RGB") for name in OF_GRADIO}


def _files(packages: Path, patterns: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """What of the packages has such a path."""
    for package in sorted(packages.iterdir()):
        if package.suffix == ".whl":
            with zipfile.ZipFile(package) as archive:
                for name in archive.namelist():
                    if any(fnmatch(name, pattern) for pattern in patterns):
                        yield name, archive.read(name)
        elif package.suffix == ".deb":
            tar = subprocess.run(
                ["dpkg-deb", "--fsys-tarfile", package], check=True, capture_output=True
            ).stdout
            with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
                for member in archive.getmembers():
                    if member.isfile() and any(fnmatch(member.name, p) for p in patterns):
                        file = archive.extractfile(member)
                        assert file
                        yield member.name, file.read()


def _opened(path: str, content: bytes) -> Image.Image:
    if path.endswith("face.dat"):  # SciPy's raccoon, 768 by 1024
        pixels = np.frombuffer(bz2.decompress(content), np.uint8).reshape(768, 1024, 3)
        return Image.fromarray(pixels)
    image = Image.open(io.BytesIO(content))
    if max(image.size) > LARGEST:
        image.draft("RGB", (1200, 1200))
        image = image.convert("RGB")
        image.thumbnail((LARGEST, LARGEST), Image.Resampling.LANCZOS)
    return image.convert("RGB")
