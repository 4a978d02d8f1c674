"""A model and an encoder whose every truth is known.

The encoder reads numbers out of pixels and the model writes them in; both have the real interfaces.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from personalization.adapters.adapter import Adapter, Description
from personalization.bases.encoders import EncoderPair
from personalization.data.photos import Photo
from personalization.evaluation.measure import measuring
from personalization.evaluation.plan import Budget, Plan
from personalization.evaluation.prompts import eval_prompts
from personalization.evaluation.renderer import ImageCache, Renderer
from personalization.evaluation.report import Cost, Report
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import Stage
from personalization.training.run import LossRow

MUG = Description(
    "lora", "tiny", placeholder_token="sks", class_noun="mug", kind="object", rank=8, alpha=8
)
PLAN = Plan(prompts=6, seeds=2, class_pictures=6, unrelated=6)
BUDGET = Budget(None, (PLAN,))

AXES = 40
CLASS, OWN, OTHER_SUBJECT, FIRST_PROMPT = 0, 1, 2, 3


def written(vector: np.ndarray, layout: int) -> Image.Image:
    """A picture whose first row of pixels is `vector`, and whose layout is number `layout`."""
    pixels = np.random.default_rng(layout).integers(0, 256, (AXES, AXES)).astype(np.uint8)
    pixels[0] = np.clip(np.round(128 + 100 * vector), 0, 255)
    return Image.fromarray(pixels)


class ReadingEncoder:
    """Reads the first row of a picture, and knows the plain prompts by heart.

    With `individuals` it tells subjects of a class apart, as DINO does; without, as CLIP, not.
    """

    def __init__(self, prompts: Sequence[str], *, individuals: bool):
        self.name = "dino" if individuals else "clip"
        self.prompts = list(prompts)
        self.individuals = individuals

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        vectors = [np.asarray(p.convert("L"))[0].astype(np.float32) - 128 for p in pictures]
        features = torch.from_numpy(np.stack(vectors))
        if not self.individuals:
            features[:, [OWN, OTHER_SUBJECT]] = 0
        return normalize(features, dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        vectors = torch.zeros(len(texts), AXES)
        for row, text in enumerate(texts):
            if text in self.prompts:  # else it names the class alone
                vectors[row, FIRST_PROMPT + self.prompts.index(text)] = 1
            vectors[row, CLASS] = 0.3
        return normalize(vectors, dim=1)


class Model:
    """Draws what it is told to know.

    knows(strength): how much of its own subject; follows(strength): how much of the prompt;
    leaks: how much of the subject it shows without the word; copies: photos that it gives back.
    """

    def __init__(
        self,
        description: Description = MUG,
        knows: Callable[[float], float] = lambda s: min(1.0, s),
        follows: Callable[[float], float] = lambda s: 1.0 if s <= 1 else 0.3,
        leaks: float = 0.0,
        subject: int = OWN,
        copies: Sequence[Image.Image] = (),
    ):
        prompts = eval_prompts(description, 20)
        self.of_subject = {p.of_subject: i for i, p in enumerate(prompts)}
        self.of_class = {p.of_class: i for i, p in enumerate(prompts)}
        names = list(self.of_class)
        self.encoder_pair = EncoderPair(
            ReadingEncoder(names, individuals=True), ReadingEncoder(names, individuals=False)
        )
        self.knows, self.follows, self.leaks = knows, follows, leaks
        self.subject, self.copies = subject, copies
        self.drawn: list[tuple[float, str, int]] = []

    def __call__(
        self, strength: float, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        self.drawn += [(strength, p, s) for p, s in zip(prompts, seeds, strict=True)]
        return [self.one(strength, p, s) for p, s in zip(prompts, seeds, strict=True)]

    def one(self, strength: float, prompt: str, seed: int) -> Image.Image:
        noise = np.random.default_rng([seed, crc32(prompt.encode())]).normal(0, 0.03, AXES)
        vector = np.zeros(AXES)
        vector[CLASS] = 0.3
        number = self.of_subject.get(prompt) if strength else None
        if number is not None:
            if self.copies:
                return self.copies[seed % len(self.copies)]
            vector[self.subject] += self.knows(strength)
            vector[FIRST_PROMPT + number] += 0.7 * self.follows(strength)
        else:
            number = self.of_class.get(prompt, 20 + len(prompt) % 15)
            vector[FIRST_PROMPT + number] += 0.7
            vector[OWN] += self.leaks if strength else 0.0
        return written(vector + noise, layout=seed)


def mug_photos(count: int = 4) -> list[Image.Image]:
    """The subject, in other places than any prompt's."""
    out = []
    for i in range(count):
        vector = np.zeros(AXES)
        vector[CLASS], vector[OWN] = 0.3, 1.0
        vector[-1 - i] = 0.4
        out.append(written(vector, layout=900 + i))
    return out


def trained_on(description: Description, photos: Sequence[Image.Image]) -> TrainedAdapter:
    """An adapter of no weights, with photos, cost and losses."""
    named = tuple(Photo(f"{i}.png", p.resize((96, 96))) for i, p in enumerate(photos))
    losses = tuple(LossRow(i, 1 / i, None, 0.1) for i in range(1, 20))
    cost = Cost(12.0, 0.0, None, 1_200_000, 19, "cpu")
    return TrainedAdapter(Adapter(description, {}), named, cost, losses)


def report_of(
    model: Model,
    photos: Sequence[Image.Image] | None = None,
    description: Description = MUG,
    image_cache: ImageCache | None = None,
) -> Report:
    """What is measured of the model, by its own encoders."""
    photos = mug_photos() if photos is None else photos
    trained = trained_on(description, photos)
    renderer = Renderer(model, image_cache, trained=str(id(model)))
    *stages, report = measuring(trained, photos, renderer, model.encoder_pair, BUDGET)
    assert all(isinstance(stage, Stage) for stage in stages)
    assert isinstance(report, Report)
    return report
