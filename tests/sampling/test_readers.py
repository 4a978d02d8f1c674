"""Who looks at a reference on Stable Diffusion's bases: what diffusers loads of the same files."""

from __future__ import annotations

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from personalization.bases.catalog import ASSETS
from personalization.bases.guides import REFERENCES
from personalization.errors import PersonalizationError
from personalization.sampling.guides import Guides, Reference
from personalization.sampling.guiding import guided, usable
from tests.support import hub_server, ip_adapter, tiny

NAME = "h94/IP-Adapter"
FAMILIES = {"sd15": "sd1", "sdxl": "sdxl"}


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(ASSETS / "examples" / "crowned-dog" / "0.png").convert("RGB")


@pytest.fixture(params=FAMILIES)
def there(request, tmp_path, monkeypatch):
    """A tiny base, its family, and a Hub that has the repository for it and nothing else."""
    name, family = request.param, FAMILIES[request.param]
    base = tiny.family_base(name, seed=3)
    made = ip_adapter.repository(family, base.denoiser, tmp_path / "encoder")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    with hub_server.hub({NAME: made}) as hub:
        hub_server.lead_to(monkeypatch, hub)
        yield base, family, hub


def test_each_reader_draws_what_an_untouched_pipeline_draws_with_the_same_files(
    there, photo
) -> None:
    base, family, hub = there
    asked = {
        "prompt": "a dog", "num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np",
        "width": 32, "height": 32,
    }  # fmt: skip
    drawn = {}
    fetched: list[str] = []
    for reader in REFERENCES[family]:
        pipe, before = base.pipeline("text"), len(hub.asked)
        with torch.inference_mode():
            guides = Guides(Reference((photo,), 0.7, by=reader.name))
            with guided(base, guides, guidance=4.0):
                generator = torch.Generator().manual_seed(5)
                ours = pipe(**asked, generator=generator).images[0]
            fetched += [path for _, path, _ in hub.asked[before:] if "/resolve/" in path]
            processors = dict(base.denoiser.attn_processors)
            theirs = type(pipe)(**pipe.components)
            theirs.set_progress_bar_config(disable=True)
            folder, _, file = reader.file.rpartition("/")
            theirs.load_ip_adapter(
                NAME, subfolder=folder, weight_name=file, revision=reader.weights.revision,
                image_encoder_folder=reader.encoder_folder,
            )  # fmt: skip
            theirs.set_ip_adapter_scale(0.7)
            generator = torch.Generator().manual_seed(5)
            expected = theirs(**asked, ip_adapter_image=photo, generator=generator).images[0]
            theirs.unload_ip_adapter()
            base.denoiser.set_attn_processor(processors)
        assert np.abs(ours - expected).max() < 1e-4
        drawn[reader.name] = ours
    assert list(drawn) == ["", "plain", "plus-face"]
    assert np.abs(drawn[""] - drawn["plain"]).max() > 1e-3
    assert np.abs(drawn[""] - drawn["plus-face"]).max() > 1e-3
    revision = REFERENCES[family][0].weights.revision
    assert fetched
    assert all(revision in path for path in fetched)


def test_a_reader_that_is_none_and_a_hub_that_lacks_it_are_said_and_the_rest_draws(
    there, photo
) -> None:
    base, _, hub = there
    found, missing = usable(base, Guides(Reference((photo,), by="faceid")), (32, 32))
    assert found == Guides()
    assert "not by “faceid”" in missing[0]
    hub.repositories.clear()
    found, missing = usable(base, Guides(Reference((photo,), by="plain")), (32, 32))
    assert found == Guides()
    assert NAME in missing[0]
    assert "plain" not in {spec.name for spec in REFERENCES["pocket"]}
    with pytest.raises(PersonalizationError, match="nothing for the usual one"):
        Guides(Reference((photo,), by="plain")).check(tiny.family_spec("pocket"))
