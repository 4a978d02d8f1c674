"""The pocket's own T2I-Adapters (Mou et al. 2023, arXiv 2302.08453): a map beside the prompt.

`python -m personalization.pocket.structure --map edges` trains one on maps of the drawn world and
writes assets/pocket-structure/edges, a folder that diffusers' `T2IAdapter` loads. It runs once a
picture; its features are added after each block of the UNet's way down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from diffusers import T2IAdapter
from PIL import Image
from torch import Tensor

from personalization.data.maps import edges

from . import frozen, pairs, pictures
from .frozen import FrozenBase, FrozenPlan, Noised
from .pairs import SHOTS, Pairs
from .reference import spoken
from .world import Scene, draw, mask

HORIZON, NEAREST_GROUND = 0.5, 0.6  # where the ground begins, of the height; its depth at the foot
FIGURE_DEPTH = 0.9
NO_MAP = 0.05  # of the samples have an empty map, which asks for nothing


def make_adapter() -> T2IAdapter:
    """Maps of (n, 1, 128, 128) in 0..1 to features of the UNet's widths; 1.8 M parameters."""
    return T2IAdapter(
        in_channels=1,
        channels=[32, 64, 128, 256],
        num_res_blocks=2,
        downscale_factor=4,
        adapter_type="full_adapter",
    )


def depth(scene: Scene) -> Image.Image:
    """How near everything is: the figure before the ground, which rises to the front; mode L."""
    rows = np.linspace(0, 1, pictures.SIZE, dtype=np.float32)
    ground = np.clip((rows - HORIZON) / (1 - HORIZON), 0, 1) * NEAREST_GROUND
    if scene.place == "plain":
        ground[:] = 0
    figure = np.asarray(mask(scene, pictures.SIZE), np.float32) / 255
    near = ground[:, None] * (1 - figure) + FIGURE_DEPTH * figure
    return Image.fromarray((near * 255).round().astype(np.uint8))


MAPS: dict[str, Callable[[Scene], Image.Image]] = {
    "edges": lambda scene: edges(draw(scene, pictures.SIZE)),
    "depth": depth,
}


def fitted(features: Sequence[Tensor]) -> list[Tensor]:
    """The features where the pocket's UNet adds them: its first block has halved its output.

    Stable Diffusion's blocks add them before that; diffusers adds them after it in a block without
    attention, which the pocket's first one is.
    """
    first, *rest = features
    return [torch.nn.functional.avg_pool2d(first, 2), *rest]


class Lesson:
    """The loss of each step: a shot's latents, given its map and a caption."""

    def __init__(
        self, base: FrozenBase, adapter: T2IAdapter, data: Pairs, plan: FrozenPlan, which: str
    ):
        self.base, self.adapter, self.data, self.plan = base, adapter, data, plan
        self.map_of = MAPS[which]

    def __call__(self, step: int) -> Tensor:
        """The mean loss of that step's batch."""
        plan, chance = self.plan, self.plan.generator(step)
        rng = np.random.default_rng([plan.seed, pairs.STREAM + 2, step])
        rows = torch.randint(len(self.data), (plan.batch,), generator=chance)
        shown = torch.randint(SHOTS, (plan.batch,), generator=chance)
        scenes = [pairs.shots(plan.seed, int(r))[int(s)] for r, s in zip(rows, shown, strict=True)]
        maps = torch.stack([to_map(self.map_of(scene)) for scene in scenes])
        without = torch.rand(plan.batch, generator=chance) < NO_MAP
        maps[without] = 0
        latents = self.base.sampled(self.data.latents[rows, shown], chance)
        noised = Noised.of(latents, plan, chance)
        captions = ["" if rng.random() < 0.1 else spoken(scene, rng) for scene in scenes]
        (predicted,) = self.base.unet(
            noised.noisy,
            noised.timesteps,
            encoder_hidden_states=self.base.hidden(captions),
            down_intrablock_additional_residuals=fitted(self.adapter(maps)),
            return_dict=False,
        )
        return noised.loss(predicted, self.data.figures[rows, shown])


def to_map(picture: Image.Image) -> Tensor:
    """(1, h, w) in 0..1."""
    return torch.from_numpy(np.asarray(picture.convert("L"), np.float32)[None] / 255)


def main(told: Sequence[str] | None = None) -> None:
    """Train or continue, and write the folder."""
    parser = frozen.parser(__doc__, steps=1500)
    add = parser.add_argument
    add("--map", choices=sorted(MAPS), default="edges")
    add("--continue-from-assets", action="store_true", help="start from the published weights")
    options = parser.parse_args(told)
    torch.set_flush_denormal(True)
    base = FrozenBase.published(options.assets)
    data = pairs.prepared(
        options.work / "pairs", options.individuals, options.seed, (base.autoencoder, base.tower)
    )
    plan = FrozenPlan(options.steps, options.batch, options.lr, seed=options.seed)
    torch.manual_seed(options.seed)
    folder = options.assets / "pocket-structure" / options.map
    adapter = make_adapter()
    if options.continue_from_assets:
        adapter.load_state_dict(T2IAdapter.from_pretrained(folder).float().state_dict())
    path = options.work / f"structure-{options.map}.pt"
    average = frozen.train(path, adapter, plan, Lesson(base, adapter, data, plan, options.map))
    average.half().save_pretrained(folder, safe_serialization=True)
    print(f"structure: {folder}", flush=True)


if __name__ == "__main__":
    main()
