"""The judge: a CLIPModel (Radford et al. 2021) of the drawn world, and the classifier beside it.

`python -m personalization.pocket.judge` trains both on drawings and captions and writes
assets/pocket-judge. Linear heads that name the scene's facts from either embedding shorten the
training; they are thrown away. It never sees a picture that the pocket made.
"""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPTextConfig,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from . import classifier, pictures
from .anatomy import TEXT_LENGTH
from .autoencoder import to_tensor
from .checkpoints import REPOSITORY, load_state, save_state
from .dataset import load_pictures
from .export import loads_as_float32, swap_in
from .muon import optimizers
from .schedules import warmup_then_cosine
from .text import ANSWERS, answers, tokens, training_caption
from .tokens import tokenizers_in
from .world import full_caption

WIDTH = 128


def make_judge(tokenizer: CLIPTokenizer) -> CLIPModel:
    """ViT of 4 x 128 on patches of 16, text tower of 3 x 128, joint space of 128."""
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 4,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=pictures.SIZE,
        patch_size=16,
        projection_dim=WIDTH,
    )
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH * 4,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        projection_dim=WIDTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.eos_token_id,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=WIDTH)
    )


def image_embeddings(model: CLIPModel, images: Tensor) -> Tensor:
    """(n, 3, 128, 128) in -1..1 to unit vectors (n, 128)."""
    pooled = model.vision_model(pixel_values=images).pooler_output
    return F.normalize(model.visual_projection(pooled), dim=1)


def text_embeddings(model: CLIPModel, ids: Tensor) -> Tensor:
    """(n, 32) token numbers to unit vectors (n, 128)."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled), dim=1)


class Heads(nn.Module):
    """The facts, from an embedding of either tower."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(WIDTH, len(o)) for o in ANSWERS.values())

    def forward(self, embeddings: Tensor, truth: Tensor) -> Tensor:
        """Summed cross-entropy; truth (n, facts)."""
        losses = [
            F.cross_entropy(head(embeddings * WIDTH**0.5), truth[:, i])
            for i, head in enumerate(self.heads)
        ]
        return torch.stack(losses).sum()


def train(
    folder: Path,
    drawings: np.ndarray,
    tokenizer: CLIPTokenizer,
    seed: int,
    steps: int,
    batch: int = 96,
) -> CLIPModel:
    """Train or continue; the checkpoint lies in `folder`."""
    torch.manual_seed(seed)
    model, heads = make_judge(tokenizer), Heads()
    lr = 1.5e-3
    optims = optimizers(nn.ModuleDict({"model": model, "heads": heads}), lr, weight_decay=0.02)
    path = folder / "judge.pt"
    first, started = load_state(path, {"model": model, "heads": heads}, optims), time.time()
    truth = torch.tensor([answers(pictures.scene_at(seed, n)) for n in range(len(drawings))])
    sketch = truth[:, -1] == ANSWERS["style"].index("sketch")
    truth[sketch, list(ANSWERS).index("colour")] = -100
    for step in range(first, steps):
        rng = np.random.default_rng([seed, 6, step])
        rows = rng.choice(len(drawings), batch, replace=False)
        scenes = [pictures.scene_at(seed, int(n)) for n in rows]
        texts = [
            full_caption(scene) if rng.random() < 0.5 else training_caption(scene, rng)
            for scene in scenes
        ]
        shaken = torch.Generator().manual_seed(seed * 37 + step)
        images = classifier.disturbed(to_tensor(drawings[rows]), shaken)
        seen = image_embeddings(model, images)
        said = text_embeddings(model, tokens(tokenizer, texts))
        logits = seen @ said.T * model.logit_scale.exp().clamp(max=50)
        # Equal captions are not each other's wrong answer.
        same = torch.tensor([[a == b for b in texts] for a in texts])
        target = same.float() / same.sum(1, keepdim=True)
        contrast = F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)
        loss = contrast + 0.25 * (heads(seen, truth[rows]) + heads(said, truth[rows]))
        loss.backward()
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = lr * warmup_then_cosine(step, steps, warmup=50)
            optim.step()
            optim.zero_grad(set_to_none=True)
        if step % 50 == 49 or step == steps - 1:
            first_right = (logits.argmax(1) == torch.arange(batch)).float().mean()
            pace = (step + 1 - first) * batch / (time.time() - started)
            print(
                f"judge: step {step + 1}, contrast {contrast.item():.3f}, "
                f"first {float(first_right):.2f}, {pace:.0f} samples/s",
                flush=True,
            )
            save_state(path, step + 1, {"model": model, "heads": heads}, optims)
    return model.eval()


@torch.no_grad()
def rank_one(model: CLIPModel, tokenizer: CLIPTokenizer, seed: int, rounds: int = 3) -> float:
    """How often an unseen drawing's own full caption comes first among 100.

    A caption that says the same counts as the same.
    """
    right = []
    for start in range(pictures.UNSEEN, pictures.UNSEEN + 100 * rounds, 100):
        numbers = range(start, start + 100)
        texts = [full_caption(pictures.scene_at(seed, number)) for number in numbers]
        images = to_tensor(pictures.drawn(seed, numbers))
        said = text_embeddings(model, tokens(tokenizer, texts))
        best = (image_embeddings(model, images) @ said.T).argmax(1)
        right += [texts[int(b)] == own for b, own in zip(best, texts, strict=True)]
    return sum(right) / len(right)


def export(
    target: Path, model: CLIPModel, tokenizer: CLIPTokenizer, reader: classifier.Classifier
) -> None:
    """Write a folder for CLIPModel, CLIPTokenizer and CLIPImageProcessor, and the classifier."""
    folder = target.with_name(target.name + ".part")
    shutil.rmtree(folder, ignore_errors=True)
    model.half().save_pretrained(folder)
    loads_as_float32(folder / "config.json")
    tokenizer.save_pretrained(folder)
    size = {"height": pictures.SIZE, "width": pictures.SIZE}
    CLIPImageProcessor(
        size={"shortest_edge": pictures.SIZE},
        crop_size=size,
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    ).save_pretrained(folder)
    classifier.save_classifier(reader, folder / "classifier.safetensors")
    (folder / "README.md").write_text(README)
    for file in folder.rglob("*.safetensors"):
        file.chmod(0o644)
    swap_in(folder, target)


README = """---
license: apache-2.0
---
# The pocket's judge

A CLIPModel (ViT of 4 x 128, patches of 16, 128 px) trained contrastively on the drawn world and its
captions, and in `classifier.safetensors` a small CNN that names a drawing's facts
(`personalization/pocket/classifier.py`). Made by `python -m personalization.pocket.judge`; neither
saw a picture that the pocket made. Licence: Apache-2.0.
"""


def main() -> None:
    """Train what is not yet trained, then write the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=REPOSITORY / "build" / "pocket")
    parser.add_argument("--pocket", type=Path, default=REPOSITORY / "assets" / "pocket")
    parser.add_argument("--out", type=Path, default=REPOSITORY / "assets" / "pocket-judge")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--steps", type=int, default=2300)
    parser.add_argument("--classifier-steps", type=int, default=2800)
    options = parser.parse_args()
    torch.set_flush_denormal(True)
    drawings = load_pictures(options.work / "pictures", options.pictures)
    tokenizer = tokenizers_in(options.work, options.seed)[1]
    autoencoder = AutoencoderKL.from_pretrained(options.pocket, subfolder="vae")
    reader = classifier.train(
        options.work, drawings, autoencoder, options.seed, options.classifier_steps
    )
    print("classifier:", classifier.accuracy(reader, options.seed), flush=True)
    model = train(options.work, drawings, tokenizer, options.seed, options.steps)
    print(f"judge: first among 100: {rank_one(model, tokenizer, options.seed):.2f}", flush=True)
    export(options.out, model, tokenizer, reader)


if __name__ == "__main__":
    main()
