"""The pocket's own IP-Adapter (Ye et al. 2023, arXiv 2308.06721): a picture beside the prompt.

`python -m personalization.pocket.reference` trains it on pairs of the drawn world and writes
assets/pocket-reference. One linear layer each for keys and values is added to every
cross-attention, and a small projection reads the patch states of the vision tower, all 65 of them:
the pooled vector alone loses patterns. The file has IP-Adapter's own layout (that of its "full"
variety), so a plain `load_ip_adapter` takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn

from . import frozen, pairs, pictures
from .anatomy import TEXT_WIDTH
from .frozen import FrozenBase, FrozenPlan, Noised
from .pairs import SHOTS, Pairs
from .world import Scene, caption
from .world.captions import place_phrases, style_frames, with_article
from .world.scene import pick

STATES = 128  # width of the vision tower
DROPPED = 0.05  # of the samples each: no text, no reference, neither
MINIMAL = 0.7  # of the captions say class and place alone; the rest is the reference's to say
FIRST_VALUES = 0.2  # of the text's values, so that the start is near the untouched base
FILE = "ip-adapter.safetensors"


def first_state(unet: UNet2DConditionModel) -> dict[str, dict[str, Tensor]]:
    """An IP-Adapter to begin with: keys and values as those of the text."""
    projection = {
        "proj.0.weight": torch.randn(STATES, STATES) / STATES**0.5,
        "proj.0.bias": torch.zeros(STATES),
        "proj.2.weight": torch.randn(TEXT_WIDTH, STATES) / STATES**0.5,
        "proj.2.bias": torch.zeros(TEXT_WIDTH),
        "proj.3.weight": torch.ones(TEXT_WIDTH),
        "proj.3.bias": torch.zeros(TEXT_WIDTH),
    }
    layers = {}
    for number, name in zip(numbers(unet), crossing(unet), strict=True):
        attention = unet.get_submodule(name.removesuffix(".processor"))
        layers[f"{number}.to_k_ip.weight"] = attention.to_k.weight.detach().clone()
        layers[f"{number}.to_v_ip.weight"] = FIRST_VALUES * attention.to_v.weight.detach()
    return {"image_proj": projection, "ip_adapter": layers}


def crossing(unet: UNet2DConditionModel) -> list[str]:
    """The names of the processors that attend to the prompt, in IP-Adapter's order."""
    return [name for name in unet.attn_processors if not name.endswith("attn1.processor")]


def numbers(unet: UNet2DConditionModel) -> range:
    """By which numbers an IP-Adapter's file calls those: the odd ones."""
    return range(1, 2 * len(crossing(unet)), 2)


class Reference(nn.Module):
    """What learns: the projection, and keys and values for each cross-attention of `unet`."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        unet._load_ip_adapter_weights([first_state(unet)], low_cpu_mem_usage=False)
        self.projection = unet.encoder_hid_proj
        self.layers = nn.ModuleList(unet.attn_processors[name] for name in crossing(unet))

    def state(self) -> dict[str, Tensor]:
        """In IP-Adapter's own layout, fp16."""
        (projection,) = self.projection.image_projection_layers
        renamed = {"ff.net.0.proj": "proj.0", "ff.net.2": "proj.2", "norm": "proj.3"}
        tensors = {
            f"image_proj.{renamed[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": tensor
            for name, tensor in projection.state_dict().items()
        }
        for index, layer in enumerate(self.layers):
            for which in ("k", "v"):
                weight = getattr(layer, f"to_{which}_ip")[0].weight
                tensors[f"ip_adapter.{2 * index + 1}.to_{which}_ip.weight"] = weight
        return {name: tensor.detach().half().contiguous() for name, tensor in tensors.items()}


def spoken(scene: Scene, rng: np.random.Generator) -> str:
    """A caption that mostly leaves to the reference what only it can say."""
    if rng.random() >= MINIMAL:
        return caption(scene, rng)
    phrase = with_article(scene.kind)
    if rng.random() < 0.9:
        phrase += f" {pick(rng, place_phrases(scene))}"
    if scene.style != "cartoon" and rng.random() < 0.5:
        return pick(rng, style_frames(scene.style)).format(phrase)
    return f"a photo of {phrase}"


class Lesson:
    """The loss of each step: one shot's latents, given another shot's states and a caption."""

    def __init__(self, base: FrozenBase, data: Pairs, plan: FrozenPlan):
        self.base, self.data, self.plan = base, data, plan
        grey = torch.zeros(1, 3, pictures.SIZE, pictures.SIZE)
        self.nothing = pairs.patch_states(base.tower, grey)  # as diffusers' pipelines drop it
        self.empty = base.hidden([""])

    def __call__(self, step: int) -> Tensor:
        """The mean loss of that step's batch."""
        plan, chance = self.plan, self.plan.generator(step)
        rng = np.random.default_rng([plan.seed, pairs.STREAM + 1, step])
        rows = torch.randint(len(self.data), (plan.batch,), generator=chance)
        shown = torch.randint(SHOTS, (plan.batch,), generator=chance)
        given = (shown + torch.randint(1, SHOTS, (plan.batch,), generator=chance)) % SHOTS
        dropped = torch.rand(plan.batch, generator=chance)
        scenes = [pairs.shots(plan.seed, int(r))[int(s)] for r, s in zip(rows, shown, strict=True)]
        hidden = self.base.hidden([spoken(scene, rng) for scene in scenes])
        states = self.data.states[rows, given].float()
        no_text = (dropped < 2 * DROPPED)[:, None, None]
        no_reference = ((dropped >= DROPPED) & (dropped < 3 * DROPPED))[:, None, None]
        latents = self.base.sampled(self.data.latents[rows, shown], chance)
        noised = Noised.of(latents, plan, chance)
        (predicted,) = self.base.unet(
            noised.noisy,
            noised.timesteps,
            encoder_hidden_states=torch.where(no_text, self.empty, hidden),
            added_cond_kwargs={
                "image_embeds": [torch.where(no_reference, self.nothing, states)[:, None]]
            },
            return_dict=False,
        )
        return noised.loss(predicted, self.data.figures[rows, shown])


def main(told: Sequence[str] | None = None) -> None:
    """Train or continue, and write the file."""
    parser = frozen.parser(__doc__, steps=3000)
    options = parser.parse_args(told)
    torch.set_flush_denormal(True)
    base = FrozenBase.published(options.assets)
    data = pairs.prepared(
        options.work / "pairs", options.individuals, options.seed, (base.autoencoder, base.tower)
    )
    plan = FrozenPlan(options.steps, options.batch, options.lr, seed=options.seed)
    torch.manual_seed(options.seed)
    module = Reference(base.unet).requires_grad_(True)
    average = frozen.train(options.work / "reference.pt", module, plan, Lesson(base, data, plan))
    folder = options.assets / "pocket-reference"
    folder.mkdir(parents=True, exist_ok=True)
    save_file(average.state(), folder / FILE)
    print(f"reference: {folder / FILE}", flush=True)


if __name__ == "__main__":
    main()
