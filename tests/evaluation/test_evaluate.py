"""Claims about the report: what is measured is what it is called, and known cases come out right.

The judge here reads numbers out of pixels and the model writes them in, so that every truth is
known; both have the real interfaces.
"""

from __future__ import annotations

import json
import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn.functional import normalize
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from personalization.adapters.adapter import Adapter, Description, read
from personalization.data.concept import Concept
from personalization.data.photos import Photo, crop
from personalization.errors import AdapterError, HubError, PhotoError
from personalization.evaluation import evaluate, metrics
from personalization.evaluation.encoders import (
    PLACES,
    POCKET,
    POCKET_AGREEMENT,
    ClipEncoder,
    DebiasedFeatures,
    EncoderPair,
)
from personalization.evaluation.evaluate import Plan, Subject, eval_prompts, measuring
from personalization.evaluation.metrics import Estimate, interval
from personalization.evaluation.renderer import ImageCache, Renderer
from personalization.evaluation.report import Comparison, Cost, Report
from personalization.events import SliceEnded, Stage
from personalization.pocket import world
from personalization.recipe import LowRank, Recipe
from personalization.training.run import LossRow, Run, State
from tests.support import tiny

EXAMPLES = Path(__file__).parents[2] / "assets" / "examples"
MUG = Description(
    "lora", "tiny", placeholder_token="sks", class_noun="mug", kind="object", rank=8, alpha=8
)
PLAN = Plan(prompts=6, seeds=2, class_pictures=6, unrelated=6)


def features(n: int, d: int = 24, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return normalize(torch.randn(n, d, generator=generator) + 0.5, dim=1)


# The metrics, against the same quantity computed in another way


def test_subject_fidelity_is_the_mean_cosine_over_all_pairs():
    outputs, photos = features(5), features(3, seed=1)
    for value, output in zip(metrics.subject_fidelity(outputs, photos), outputs, strict=True):
        cosines = [float(output @ p / (output @ output * (p @ p)) ** 0.5) for p in photos]
        assert float(value) == pytest.approx(np.mean(cosines), abs=1e-6)


def test_photos_are_compared_with_the_others_and_not_with_themselves():
    photos = features(4)
    for i, value in enumerate(metrics.among_themselves(photos)):
        others = [float(photos[i] @ photos[j]) for j in range(4) if j != i]
        assert float(value) == pytest.approx(np.mean(others), abs=1e-6)
    assert len(metrics.among_themselves(photos[:1])) == 0


def test_prompt_fidelity_compares_each_picture_with_its_own_prompt():
    outputs, texts = features(5), features(5, seed=1)
    expected = torch.nn.functional.cosine_similarity(outputs, texts)
    assert torch.allclose(metrics.prompt_fidelity(outputs, texts), expected, atol=1e-6)


def test_diversity_is_the_mean_distance_over_all_pairs():
    pictures = features(6)
    pairs = [1 - float(pictures[i] @ pictures[j]) for i in range(6) for j in range(i)]
    assert float(metrics.diversity(pictures).mean()) == pytest.approx(np.mean(pairs), abs=1e-6)
    assert float(metrics.diversity(pictures[:1].repeat(4, 1)).mean()) == pytest.approx(0, abs=1e-6)


def test_the_interval_of_a_mean_is_that_of_the_normal_approximation():
    values = torch.randn(200, generator=torch.Generator().manual_seed(3)) + 2
    half = 1.96 * float(values.std()) / math.sqrt(200)
    found = interval(values)
    assert found.mean == pytest.approx(float(values.mean()))
    assert found.low == pytest.approx(found.mean - half, abs=0.15 * half)
    assert found.high == pytest.approx(found.mean + half, abs=0.15 * half)


@pytest.mark.parametrize("n", [5, 8, 20])
def test_an_interval_holds_the_truth_about_as_often_as_it_says(n):
    draws = torch.randn(250, n, generator=torch.Generator().manual_seed(0))
    held = sum(not interval(draw).differs(0) for draw in draws) / 250
    assert 0.91 <= held <= 0.99


def test_differences_are_taken_in_pairs():
    prompt = torch.linspace(0, 1, 12)  # prompts differ much more than the two models do
    noise = 0.01 * torch.randn(12, generator=torch.Generator().manual_seed(1))
    better = prompt + 0.05 + noise
    assert interval(better - prompt).low > 0
    assert interval(better).low < interval(prompt).high
    assert interval(better, over=better) == Estimate(1, 1, 1)


def test_rank_correlation_knows_order_and_ties():
    a = torch.tensor([1.0, 2, 3, 4])
    assert metrics.rank_correlation(a, a.exp()) == pytest.approx(1)
    assert metrics.rank_correlation(a, -a) == pytest.approx(-1)
    # By hand: ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4.
    tied = torch.tensor([1.0, 2, 2, 4])
    assert metrics.rank_correlation(a, tied) == pytest.approx(4.5 / math.sqrt(5 * 4.5))


def test_the_balance_is_the_best_product_and_beyond_a_reference_nothing_is_won():
    assert metrics.balance(torch.tensor([0.5, 0.9, 1.0]), torch.tensor([1.0, 0.9, 0.5])) == 1
    assert metrics.balance(torch.tensor([0.95, 1.4]), torch.tensor([1.0, 0.9])) == 0


# The drawn world, where the truth is known


def photos_of(scene: world.Scene, count: int, seed: int) -> list[world.Scene]:
    rng = np.random.default_rng(seed)
    setting = world.scene.sample_setting
    return [replace(scene, **setting(rng, scene.colour)) for _ in range(count)]


def test_a_copied_photo_is_flagged_and_the_same_thing_elsewhere_is_not():
    scenes = [world.sample(np.random.default_rng(seed)) for seed in range(8)]
    copied = flagged = 0
    for scene in scenes:
        shown = photos_of(scene, 4, seed=1)
        photos = metrics.thumbs([world.draw(s, 96) for s in shown])
        blurred = [
            world.draw(replace(s, x=s.x + 0.01), 96).filter(ImageFilter.GaussianBlur(1))
            for s in shown
        ]
        elsewhere = [world.draw(s, 96) for s in photos_of(scene, 4, seed=2)]
        for outputs, name in ((blurred, "copied"), (elsewhere, "flagged")):
            nearest, likeness, threshold = metrics.copying(metrics.thumbs(outputs), photos)
            count = int((likeness >= threshold).sum())
            if name == "copied":
                copied += count
                assert nearest.tolist() == [0, 1, 2, 3]
            else:
                flagged += count
    assert copied >= 0.9 * 32
    assert flagged <= 1


@pytest.fixture(scope="module")
def pocket_judge() -> ClipEncoder:
    return ClipEncoder(POCKET)


@pytest.fixture(scope="module")
def agreement(pocket_judge) -> float:
    """How likeness ranks scenes beside their true attributes, Spearman’s, over 100 subjects."""
    encoder = DebiasedFeatures(pocket_judge)
    rng = np.random.default_rng(5)
    truth, likeness = [], []
    for _ in range(100):
        scene = world.sample(rng, wordless=False)
        scene = replace(scene, style="cartoon")
        photos = encoder.images([world.draw(s, 128) for s in photos_of(scene, 4, seed=1)])
        others = [replace(world.sample(rng, wordless=False), style="cartoon") for _ in range(14)]
        names = ("kind", "colour", "pattern", "accessory")
        for i in range(len(names)):  # from all alike to nothing alike
            others.append(replace(scene, **{n: getattr(others[i], n) for n in names[i:]}))
        outputs = encoder.images([world.draw(s, 128) for s in others])
        likeness.append(metrics.subject_fidelity(outputs, photos))
        alike = {"kind": 3, "colour": 2, "pattern": 1, "accessory": 1}
        truth.append(
            torch.tensor(
                [
                    float(sum(w * (getattr(s, n) == getattr(scene, n)) for n, w in alike.items()))
                    for s in others
                ]
            )
        )
    correlations = [metrics.rank_correlation(t, x) for t, x in zip(truth, likeness, strict=True)]
    return float(np.mean(correlations))


@pytest.mark.slow
def test_likeness_ranks_scenes_as_their_true_attributes_do(agreement):
    assert agreement >= 0.7


@pytest.mark.slow
def test_how_far_the_pocket_judge_can_be_trusted_is_said_as_measured(agreement):
    assert agreement == pytest.approx(POCKET_AGREEMENT, abs=0.01)


@pytest.mark.parametrize(("example", "one_thing"), [("owl", True), ("pixel-art", False)])
def test_a_style_taught_as_a_subject_is_noticed_by_the_real_judge(pocket_judge, example, one_thing):
    """Drawings of the class stand for what the untouched base draws of it."""
    folder = EXAMPLES / example
    photos = [Image.open(path).convert("RGB") for path in sorted(folder.glob("[0-9]*.png"))]
    description = replace(MUG, class_noun="bird", kind="creature")

    def draw(strength: float, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        scenes = [world.sample(np.random.default_rng(seed), wordless=False) for seed in seeds]
        return [world.draw(replace(s, kind="bird", style="cartoon"), 128) for s in scenes]

    plan = Plan(prompts=6, seeds=1, class_pictures=4, unrelated=4, strengths=(0.8,))
    encoder_pair = EncoderPair(DebiasedFeatures(pocket_judge), pocket_judge)
    subject = subject_of(description, photos)
    *_, report = measuring(subject, photos, Renderer(draw), encoder_pair, plans=[plan])
    assert report.figures.one_thing == one_thing
    assert ("cannot be said" in report.verdict) != one_thing
    assert ("teach it as a style" in report.verdict) != one_thing


# A model and a judge whose every truth is known

AXES = 40
CLASS, OWN, OTHER_SUBJECT, FIRST_PROMPT = 0, 1, 2, 3


def written(vector: np.ndarray, layout: int) -> Image.Image:
    """A picture whose first row of pixels is `vector`, and whose layout is number `layout`."""
    pixels = np.random.default_rng(layout).integers(0, 256, (AXES, AXES)).astype(np.uint8)
    pixels[0] = np.clip(np.round(128 + 100 * vector), 0, 255)
    return Image.fromarray(pixels)


class ReadingJudge:
    """Reads the first row of a picture, and knows the plain prompts by heart.

    With `individuals` it tells subjects of a class apart, as DINO does; without, as CLIP, not.
    """

    def __init__(self, prompts: Sequence[str], *, individuals: bool):
        self.name = "dino" if individuals else "clip"
        self.prompts = list(prompts)
        self.individuals = individuals

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        vectors = [np.asarray(p.convert("L"))[0].astype(np.float32) - 128 for p in pictures]
        seen = torch.from_numpy(np.stack(vectors))
        if not self.individuals:
            seen[:, [OWN, OTHER_SUBJECT]] = 0
        return normalize(seen, dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        vectors = torch.zeros(len(texts), AXES)
        for row, text in enumerate(texts):
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
        knows=lambda s: min(1.0, s),
        follows=lambda s: 1.0 if s <= 1 else 0.3,
        leaks: float = 0.0,
        subject: int = OWN,
        copies: Sequence[Image.Image] = (),
    ):
        prompts = eval_prompts(description, 20)
        self.asked = {p.asked: i for i, p in enumerate(prompts)}
        self.plain = {p.plain: i for i, p in enumerate(prompts)}
        names = list(self.plain)
        self.encoder_pair = EncoderPair(
            ReadingJudge(names, individuals=True), ReadingJudge(names, individuals=False)
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
        number = self.asked.get(prompt) if strength else None
        if number is not None:
            if self.copies:
                return self.copies[seed % len(self.copies)]
            vector[self.subject] += self.knows(strength)
            vector[FIRST_PROMPT + number] += 0.7 * self.follows(strength)
        else:
            number = self.plain.get(prompt, 20 + len(prompt) % 15)
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


def subject_of(description: Description, photos: Sequence[Image.Image]) -> Subject:
    kept = tuple(Photo(f"{i}.png", p.resize((96, 96))) for i, p in enumerate(photos))
    losses = tuple(LossRow(i, 1 / i, None, 0.1) for i in range(1, 20))
    return Subject(
        Adapter(description, {}), kept, Cost(12.0, 0.0, None, 1_200_000, 19, "cpu"), losses
    )


def report_of(model: Model, photos: Sequence[Image.Image] | None = None, **options) -> Report:
    photos = mug_photos() if photos is None else photos
    description = options.pop("description", MUG)
    subject = subject_of(description, photos)
    renderer = Renderer(model, options.pop("image_cache", None), trained=str(id(model)))
    events = list(measuring(subject, photos, renderer, model.encoder_pair, plans=[PLAN], **options))
    assert all(isinstance(event, Stage) for event in events[:-1])
    return events[-1]


@pytest.fixture(scope="module")
def good() -> Report:
    return report_of(Model())


def test_the_real_photos_are_above_the_adapter_and_the_adapter_above_the_base(good):
    f = good.figures
    assert f.real.low > f.base.subject.high
    assert f.gained.low > 0
    assert f.real.mean > f.balance.subject.mean > f.base.subject.mean
    assert good.verdict.startswith("It knows your mug")


def test_the_strength_is_the_largest_that_still_follows_the_prompt(good):
    f = good.figures
    assert f.balance.strength == 0.8
    assert f.holds_until == 0.8
    assert "Above 0.8 it ignores the scene." in good.verdict
    by_strength = {level.strength: level for level in f.levels}
    assert by_strength[1.5].prompt_share.high < by_strength[0.8].prompt_share.low


def test_an_adapter_of_no_effect_equals_the_base():
    report = report_of(Model(knows=lambda s: 0, follows=lambda s: 1))
    f = report.figures
    assert not f.gained.low > 0
    assert not f.drift.towards.differs()
    assert all(
        not level.prompt_share.differs(1) or level.prompt_share.low > 0.9 for level in f.levels
    )
    assert "has not learned your mug" in report.verdict


def test_the_same_weights_as_the_bases_give_exactly_the_bases_figures():
    model = Model()
    base_only = lambda strength, prompts, seeds: model(  # noqa: E731
        0.0, [plain_of(model, p) for p in prompts], seeds
    )
    subject = subject_of(MUG, mug_photos())
    renderer = Renderer(base_only)
    *_, report = measuring(subject, mug_photos(), renderer, model.encoder_pair, plans=[PLAN])
    f = report.figures
    assert f.balance.subject == f.base.subject
    assert f.balance.prompt_share == Estimate(1, 1, 1)
    assert f.gained == Estimate(0, 0, 0)
    assert f.drift.unrelated.mean == pytest.approx(0, abs=1e-6)


def plain_of(model: Model, prompt: str) -> str:
    number = model.asked.get(prompt)
    return prompt if number is None else list(model.plain)[number]


def test_an_overcooked_adapter_is_low_on_prompt_at_every_strength():
    report = report_of(Model(knows=lambda s: 1, follows=lambda s: 0.2))
    assert all(level.prompt_share.high < 0.9 for level in report.figures.levels)
    assert "follows the scene less well than the base" in report.verdict


def test_another_subject_of_the_class_is_low_on_subject(good):
    other = report_of(Model(subject=OTHER_SUBJECT)).figures
    assert other.balance.subject.high < good.figures.balance.subject.low
    assert not other.gained.low > 0


def test_a_class_that_turns_into_the_subject_is_called_drift(good):
    report = report_of(Model(leaks=0.8))
    assert report.figures.drift.towards.low > good.figures.drift.towards.high
    assert report.figures.drift.preservation.low > report.figures.drift.base_preservation.high
    assert "every mug now drifts towards it" in report.verdict
    assert report.verdict.endswith("Switch prior preservation on.")
    guarded = replace(MUG, recipe={"prior": {"kind": "images"}})
    report = report_of(Model(guarded, leaks=0.8), description=guarded)
    assert "Give prior preservation more weight" in report.verdict
    assert "every mug stays as it was" in good.verdict


def test_an_output_that_is_a_photo_is_called_a_copy(good):
    report = report_of(Model(copies=mug_photos()[2:3]))
    assert report.figures.copying.copies == report.figures.copying.outputs
    assert "It redraws photo 3 closely" in report.verdict
    assert good.figures.copying.copies == 0


def test_the_base_and_the_adapter_draw_the_same_prompts_at_the_same_seeds():
    model = Model()
    report_of(model)
    plain = {(plain_of(model, p), s) for strength, p, s in model.drawn if strength}
    base = {(p, s) for strength, p, s in model.drawn if not strength}
    assert plain == base


def test_a_second_report_draws_nothing_anew_of_the_base():
    image_cache, other = ImageCache(), Model()
    first = report_of(Model(), image_cache=image_cache)
    second = report_of(other, image_cache=image_cache)
    assert other.drawn
    assert all(strength for strength, _, _ in other.drawn)
    assert second.figures.balance == first.figures.balance
    assert second.figures.base == first.figures.base


def test_a_report_cut_into_parts_is_the_report_in_one_piece(tmp_path, good):
    model, parts = Model(), 0
    photos = mug_photos()
    subject = subject_of(MUG, photos)
    report: Report | None = None
    while report is None:
        parts += 1
        asked = iter(range(3))  # batches of this part
        renderer = Renderer(
            model,
            ImageCache(tmp_path),
            out_of_time=lambda _, asked=asked: next(asked, None) is None,
        )
        for event in measuring(subject, photos, renderer, model.encoder_pair, plans=[PLAN]):
            if isinstance(event, Report):
                report = event
        if report is None:
            assert isinstance(event, SliceEnded)
            assert 0 < event.step < event.steps == PLAN.pictures(word=False)
    assert parts > 3
    assert len(model.drawn) == len(set(model.drawn))  # nothing twice
    assert report.as_dict() == good.as_dict()
    drawn, once = ([s.image.convert("L").tobytes() for s in r.shots] for r in (report, good))
    assert drawn == once


def test_a_report_that_ended_before_its_plan_starts_anew(tmp_path):
    model = Model()
    renderer = Renderer(model, ImageCache(tmp_path), out_of_time=lambda _: bool(model.drawn))
    *_, event = measuring(subject_of(MUG, mug_photos()), mug_photos(), renderer, model.encoder_pair)
    assert isinstance(event, SliceEnded)
    assert list(tmp_path.glob("*.png"))
    assert ImageCache(tmp_path).plan is None
    assert not tmp_path.exists()


def test_a_report_is_read_back_as_it_was_saved(tmp_path, good):
    assert Report.open(tmp_path) is None
    good.save(tmp_path)
    again = Report.open(tmp_path)
    assert again == good
    assert again.shots[0].image.convert("L").tobytes() == good.shots[0].image.tobytes()
    (tmp_path / "report" / "shot-00.png").unlink()
    assert Report.open(tmp_path) is None


def test_as_many_pictures_are_drawn_as_the_plan_says():
    for method in ("lora", "textual_inversion"):
        model = Model(description=replace(MUG, method=method))
        report_of(model, description=replace(MUG, method=method))
        assert len(model.drawn) == PLAN.pictures(word=method == "textual_inversion")


def test_on_a_slow_machine_fewer_prompts_are_drawn():
    model = Model()
    subject, photos = subject_of(MUG, mug_photos()), mug_photos()
    plans = [Plan(), Plan(prompts=4, seeds=1, class_pictures=4, unrelated=4)]
    *_, report = measuring(
        subject, photos, Renderer(model), model.encoder_pair, plans=plans, seconds=0.0
    )
    assert report.figures.pictures == plans[1].pictures(word=False)


def test_a_learned_word_has_one_strength_and_nothing_to_lose():
    word = replace(MUG, method="textual_inversion")
    report = report_of(Model(description=word), description=word)
    assert [level.strength for level in report.figures.levels] == [1.0]
    assert report.figures.drift.towards == Estimate(0, 0, 0)
    assert "a word changes no weights" in report.verdict


# What cannot be said


def test_of_one_photo_the_report_says_what_it_cannot_know():
    report = report_of(Model(), mug_photos(1))
    assert report.figures.real is None
    assert any("one photo only" in limit for limit in report.limits)
    assert report.figures.balance.strength == 0.8


def test_of_two_photos_it_says_that_there_is_no_interval():
    assert any("two photos only" in limit for limit in report_of(Model(), mug_photos(2)).limits)


def test_photos_of_different_things_are_named_as_such(good):
    mixed = []
    for i in range(4):
        vector = np.zeros(AXES)
        vector[-1 - i], vector[CLASS] = 1.0, 0.2
        mixed.append(written(vector, layout=i))
    report = report_of(Model(), mixed)
    assert report.verdict.startswith("Whether it knows your mug cannot be said")
    assert "no more like each other than any mug" in report.verdict
    assert "teach it as a style" in report.verdict
    assert not good.limits


def test_one_photo_of_something_else_is_named():
    vector = np.zeros(AXES)
    vector[-9] = 1
    report = report_of(Model(), [*mug_photos(), written(vector, layout=77)])
    assert any(limit.startswith("Photo 5 is unlike") for limit in report.limits)


def test_without_photos_nothing_is_drawn():
    model = Model()
    with pytest.raises(PhotoError):
        next(measuring(subject_of(MUG, []), [], Renderer(model), model.encoder_pair))
    assert not model.drawn


def test_without_a_judge_there_are_pictures_and_the_reason(tmp_path):
    base = tiny.base()
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=str(tmp_path / "nowhere"), sampling=sampling)
    run = finished_run(tmp_path)
    report = evaluate.evaluate(base, run)
    assert report.figures is None
    assert len(report.shots) == 8
    assert "nothing can be measured" in report.verdict
    assert "nowhere" in report.html()
    json.loads(report.json())


# The bank


def test_prompts_begin_alike_whatever_their_number_so_that_reports_compare():
    assert eval_prompts(MUG, 10)[:4] == eval_prompts(MUG, 4)
    for longer, shorter in pairwise(evaluate.PLANS):
        assert set(shorter.strengths) <= set(longer.strengths)
        assert evaluate.TRIED_FIRST in shorter.strengths
        assert shorter.pictures(word=False) < longer.pictures(word=False)


def test_prompts_take_turns_between_kinds_and_call_the_subject_by_its_word():
    prompts = eval_prompts(MUG, 6)
    assert len({p.asked for p in prompts}) == 6
    assert any("beach" in p.asked for p in prompts)
    assert any("wearing" in p.asked for p in prompts)
    assert any("sketch" in p.asked for p in prompts)
    assert all("sks mug" in p.asked and "sks" not in p.plain for p in prompts)
    assert all("a mug" in p.plain for p in prompts)


def test_what_a_training_caption_says_is_not_asked_for():
    prompts = eval_prompts(MUG, 20, ["sks mug on the beach, wearing a scarf"])
    assert not any("on the beach" in p.asked or "scarf" in p.asked for p in prompts)


def test_of_a_style_other_contents_are_asked_for():
    style = Description("lora", "tiny", placeholder_token="sks", kind="style")
    assert all(p.asked == f"{p.plain}, sks style" for p in eval_prompts(style, 10))


def test_unrelated_prompts_do_not_name_the_class():
    assert len(evaluate.unrelated(MUG, 10)) == 10
    assert not any("mug" in prompt for prompt in evaluate.unrelated(MUG, 13))


# What is shown


def test_the_page_is_one_file_and_shows_no_photo(good):
    page = good.html()
    assert page.count("<img") == page.count('src="data:image/')
    assert "http://" not in page
    assert "https://" not in page
    for caption in ("best:", "worst:"):
        assert caption.removesuffix(":") in page
    assert "photo-0.png" not in page
    assert good.verdict.split(".")[0] in page


def test_the_json_holds_every_figure_and_no_number_that_is_none(good):
    data = json.loads(good.json(), parse_constant=lambda name: pytest.fail(name))
    assert data["figures"]["balance"]["strength"] == good.figures.balance.strength
    assert len(data["figures"]["levels"]) == 5
    assert data["cost"]["size"] == 1_200_000


def test_the_strip_shows_the_worst_as_well_as_the_best(good):
    strip = good.strip(5)
    assert len(strip) == 5
    assert strip[0][1].startswith("best: ")
    assert strip[-1][1].startswith("worst: ")
    scores = [shot.subject * shot.prompt_fidelity for shot in good.shots]
    assert scores == sorted(scores, reverse=True)


def test_names_from_outside_are_text_in_the_page():
    evil = replace(MUG, placeholder_token="<my-mug>", class_noun="<b>mug</b>")
    report = report_of(Model(description=evil), description=evil)
    assert "<b>mug" not in report.html()
    assert "&lt;my-mug&gt;" in report.html()


def test_a_report_survives_the_way_out_of_a_worker(good):
    assert pickle.loads(pickle.dumps(good)).html() == good.html()


def test_a_comparison_has_a_row_for_each_way(good):
    comparison = Comparison({"LoRA": good, "<i>other</i>": report_of(Model(leaks=0.8))})
    rows = comparison.rows()
    assert [row["name"] for row in rows] == ["LoRA", "<i>other</i>"]
    assert rows[1]["drift"].mean > rows[0]["drift"].mean
    assert "<i>other" not in comparison.html()
    assert set(json.loads(comparison.json())) == {"LoRA", "<i>other</i>"}


def test_a_comparison_calls_equal_what_it_cannot_tell_apart(good):
    assert "no difference" in Comparison({"one": good, "two": good}).verdict
    other = report_of(Model(knows=lambda s: 0.2, follows=lambda s: 1))
    verdict = Comparison({"LoRA": good, "word": other, "again": good}).verdict
    assert verdict.startswith("Nearest to the photos: LoRA and again alike.")


# The real thing, small


def judge_folder(path) -> str:
    """A CLIP of random weights with its processor, as a folder."""
    tokenizer = tiny.tokenizer()
    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    config = CLIPConfig(
        text_config=size
        | {
            "num_attention_heads": 2,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 24,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
        },
        vision_config=size | {"num_attention_heads": 2, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    square = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=square).save_pretrained(path)
    return str(path)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    return judge_folder(tmp_path_factory.mktemp("encoder"))


def test_a_judge_gives_features_of_length_one_that_no_neighbour_changes(clip):
    encoder = ClipEncoder(clip)
    pictures = [photo.image for photo in tiny.photos(20)]
    seen = encoder.images(pictures)
    assert seen.shape == (20, 12)
    assert torch.allclose(seen.norm(dim=1), torch.ones(20), atol=1e-5)
    assert torch.allclose(encoder.images(pictures[7:8])[0], seen[7], atol=1e-5)
    texts = encoder.texts(["a dog", "a cat on the beach " * 9, ""])
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(encoder.texts(["a dog"])[0], texts[0], atol=1e-5)


def test_a_judge_sees_as_transformers_own_model_does(clip):
    encoder, model = ClipEncoder(clip), CLIPModel.from_pretrained(clip).eval()
    picture = tiny.photos(1)[0].image
    pixels = encoder.processor(images=picture, return_tensors="pt")["pixel_values"]
    tokens = tiny.tokenizer()("a dog", return_tensors="pt", padding="max_length", max_length=24)
    with torch.no_grad():
        logits = model(pixel_values=pixels, **tokens).logits_per_image / model.logit_scale.exp()
    own = encoder.images([picture]) @ encoder.texts(["a dog"]).T
    assert float(own) == pytest.approx(float(logits), abs=1e-5)


def test_a_judge_that_is_not_there_is_an_error_in_words():
    with pytest.raises(HubError, match="nothing can be measured"):
        ClipEncoder("/nowhere/at/all")


class Placed:
    """A picture's first pixel is its place, its second the thing; the place weighs more."""

    name = "placed"

    def images(self, pictures: Sequence[Image.Image]) -> Tensor:
        seen = torch.zeros(len(pictures), 24)
        for row, picture in enumerate(pictures):
            seen[row, picture.getpixel((0, 0))] = 3
            seen[row, 12 + picture.getpixel((1, 0))] = 1
        return normalize(seen, dim=1)

    def texts(self, texts: Sequence[str]) -> Tensor:
        seen = torch.zeros(len(texts), 24)
        for row, text in enumerate(texts):
            seen[row, next(i for i, place in enumerate(PLACES) if place in text)] = 3
            seen[row, 23] = 1
        return normalize(seen, dim=1)


def test_a_thing_is_as_like_itself_elsewhere_as_in_the_same_place():
    def picture(place: int, thing: int) -> Image.Image:
        image = Image.new("L", (2, 1))
        image.putdata([place, thing])
        return image

    here, elsewhere, other = picture(1, 1), picture(5, 1), picture(1, 2)
    plain = Placed().images([here, elsewhere, other])
    apart = DebiasedFeatures(Placed()).images([here, elsewhere, other])
    assert plain[0] @ plain[2] > plain[0] @ plain[1]
    assert float(apart[0] @ apart[1]) == pytest.approx(1, abs=1e-4)
    assert apart[0] @ apart[2] < 0.6


def finished_run(folder) -> Run:
    """A run whose adapter is a LoRA of random weights."""
    concept = tiny.concept()
    recipe = Recipe(LowRank("lora", rank=2, alpha=2), steps=4)
    run = Run.create(folder / "run", concept, recipe, "tiny")
    run.log([LossRow(i, 1 / i, None, 0.1) for i in range(1, 5)])
    base = tiny.base()
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for path, layer in base.denoiser.named_modules():
        if path.endswith("to_q"):
            out, into = layer.weight.shape
            tensors[f"unet.{path}.lora_A.weight"] = torch.randn(2, into, generator=generator)
            tensors[f"unet.{path}.lora_B.weight"] = torch.randn(out, 2, generator=generator)
    described = Description(
        "lora", "tiny", placeholder_token="sks", class_noun="dog", kind="creature", rank=2, alpha=2
    )
    Adapter(described, tensors).save(run.adapter_path)
    run.set_state(State("finished", 4, 1.5))
    return run


def test_a_run_is_measured_end_to_end_and_the_adapter_remembers_its_strength(tmp_path, clip):
    base = tiny.base()
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=clip, sampling=sampling)
    run = finished_run(tmp_path)
    stages: list[Stage] = []
    before = read(run.adapter_path)
    parts = 0
    report: Report | None = None
    while report is None:
        parts += 1
        for event in evaluate.reporting(base, run, seconds=0.0, part=0.0):
            if isinstance(event, Stage):
                stages.append(event)
            elif isinstance(event, Report):
                report = event
    assert parts > 2
    assert stages[-1].done == stages[-1].total == report.figures.pictures
    after = read(run.adapter_path)
    assert after.sha256 == before.sha256
    assert after.description.strength == report.figures.balance.strength
    assert after.description.report["verdict"] == report.verdict
    assert (run.folder / "report.html").read_text() == report.html()
    assert Report.open(run.folder) == report
    assert not (run.folder / "cache" / "report").exists()
    assert not base.lock.locked()


def test_a_report_can_be_skipped_and_made_later(tmp_path, clip):
    base = tiny.base()
    base.spec = replace(base.spec, encoder=clip, sampling=replace(base.spec.sampling, steps=1))
    run = finished_run(tmp_path)
    before = run.adapter_path.read_bytes()
    run.stop()
    *_, event = evaluate.reporting(base, run, seconds=0.0)
    assert isinstance(event, SliceEnded)
    assert run.adapter_path.read_bytes() == before
    run.clear_stop()
    *_, event = evaluate.reporting(base, run, seconds=0.0)
    assert isinstance(event, Report)


def test_a_full_fine_tune_is_measured_and_the_base_is_its_own_again(tmp_path, clip):
    base, trained = tiny.base(), tiny.base(seed=1)
    sampling = replace(base.spec.sampling, steps=1)
    base.spec = replace(base.spec, encoder=clip, sampling=sampling)
    before = {n: p.detach().clone() for n, p in base.denoiser.named_parameters()}
    tensors = {f"unet.{n}": p.detach().half() for n, p in trained.denoiser.named_parameters()}
    full = Adapter(
        Description("full", "tiny", placeholder_token="sks", class_noun="dog", kind="creature"),
        tensors,
    )
    report = evaluate.evaluate(base, full, tiny.photos(3), seconds=0.0)
    assert [level.strength for level in report.figures.levels] == [0.5, 0.8, 1.1]
    assert report.figures.drift.unrelated.mean > 0
    assert all(torch.equal(before[n], p) for n, p in base.denoiser.named_parameters())
    other = Adapter(full.description, tensors | {"unet.nowhere.weight": torch.zeros(1)})
    with pytest.raises(AdapterError, match="does not fit"):
        evaluate.evaluate(base, other, tiny.photos(3))
    assert all(torch.equal(before[n], p) for n, p in base.denoiser.named_parameters())


def test_photos_are_judged_as_they_were_trained_on(tmp_path, clip):
    photos = tiny.photos(3)
    crops = [crop(photo, 32) for photo in photos]
    concept = Concept("creature", "sks", "dog", photos)
    encoder = ClipEncoder(clip)
    model = Model()
    subject = Subject(Adapter(MUG, {}), concept.photos, Cost())
    encoder_pair = EncoderPair(encoder, model.encoder_pair.prompt)
    *_, report = measuring(subject, crops, Renderer(model), encoder_pair, plans=[PLAN])
    expected = metrics.among_themselves(encoder.images(crops)).mean()
    assert report.figures.reference == pytest.approx(float(expected))
