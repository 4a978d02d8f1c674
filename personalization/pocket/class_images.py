"""Pictures of the world's classes as the pocket draws them, so that no visitor waits for them.

    python -m personalization.pocket.class_images

They go to assets/pocket-class-images, and are what prior preservation would draw first
(`training.prior`), file by file. The folders' names hold the weights' fingerprint: with new weights
every visitor draws them again, until this has been run.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from personalization import bases
from personalization.bases.catalog import CATALOG
from personalization.data.concept import class_prompt
from personalization.pocket.world import vocabulary
from personalization.training.prior import SHIPPED, SHIPPED_COUNT, ClassImages


def main() -> None:
    """Draw them all, and put them in the place of what was there."""
    base = bases.load(CATALOG["pocket"])
    with tempfile.TemporaryDirectory() as temporary:
        new = Path(temporary)
        for noun in vocabulary.CLASSES:
            prompt = class_prompt("object", noun)
            images = ClassImages(base, prompt, SHIPPED_COUNT, new, shipped=new)
            for _ in images.draw(lambda _: False, lambda _: None):
                pass
            print(f"class images: {noun}", flush=True)
        for old in (path for path in SHIPPED.iterdir() if path.is_dir()):
            shutil.rmtree(old)
        shutil.copytree(new, SHIPPED, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
