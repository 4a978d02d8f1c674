"""Claims about the measurement: known cases come out right, in one piece or in parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from personalization.adapters.adapter import Adapter
from personalization.bases.catalog import ASSETS
from personalization.bases.encoders import (
    ClipEncoder,
    DebiasedFeatures,
    EncoderPair,
)
from personalization.data.frames import crop
from personalization.errors import PhotoError
from personalization.evaluation import metrics, report_html, verdict
from personalization.evaluation.figures import FOLLOWS, Estimate
from personalization.evaluation.measure import measuring
from personalization.evaluation.plan import Budget, Plan
from personalization.evaluation.prompts import eval_prompts
from personalization.evaluation.renderer import ImageCache, Renderer
from personalization.evaluation.report import Cost, Report
from personalization.evaluation.trained_adapter import TrainedAdapter
from personalization.events import SliceEnded
from personalization.pocket import world
from tests.support import tiny
from tests.support.known import (
    AXES,
    BUDGET,
    CLASS,
    MUG,
    OTHER_SUBJECT,
    OWN,
    PLAN,
    Model,
    mug_photos,
    report_of,
    trained_on,
    written,
)


@pytest.mark.parametrize(("example", "one_thing"), [("owl", True), ("pixel-art", False)])
def test_a_style_taught_as_a_subject_is_noticed_by_the_real_judge(
    pocket_encoder, example, one_thing
):
    """Drawings of the class stand for what the untouched base draws of it."""
    folder = ASSETS / "examples" / example
    photos = [Image.open(path).convert("RGB") for path in sorted(folder.glob("[0-9]*.png"))]
    description = replace(MUG, class_noun="bird", kind="creature")

    def draw(strength: float, prompts: Sequence[str], seeds: Sequence[int]) -> list[Image.Image]:
        scenes = [world.sample(np.random.default_rng(seed), held_out_words=False) for seed in seeds]
        return [world.draw(replace(s, kind="bird", style="cartoon"), 128) for s in scenes]

    plan = Plan(prompts=6, seeds=1, class_pictures=4, unrelated=4, strengths=(0.8,))
    encoder_pair = EncoderPair(DebiasedFeatures(pocket_encoder), pocket_encoder)
    trained = trained_on(description, photos)
    *_, report = measuring(trained, photos, Renderer(draw), encoder_pair, Budget(None, (plan,)))
    assert report.figures.one_thing == one_thing
    assert ("cannot be said" in report.verdict) != one_thing
    assert ("teach it as a style" in report.verdict) != one_thing


def test_what_one_photo_gives_without_training_stands_beside_what_training_gave(tmp_path):
    model = Model()
    asked = [prompt.of_class for prompt in eval_prompts(MUG, PLAN.prompts)]
    words = {prompt.of_class: prompt.of_subject for prompt in eval_prompts(MUG, PLAN.prompts)}

    def draw(strength: float | None, prompts: Sequence[str], seeds: Sequence[int]):
        if strength is None:  # a photo is looked at: half of what the adapter knows
            assert list(prompts) == asked
            return model(0.5, [words[prompt] for prompt in prompts], seeds)
        return model(strength, prompts, seeds)

    trained, budget = trained_on(MUG, mug_photos()), replace(BUDGET, untrained=True)
    *_, report = measuring(trained, mug_photos(), Renderer(draw), model.encoder_pair, budget)
    figures = report.figures
    half = next(level for level in figures.levels if level.strength == 0.5)
    untrained = figures.untrained.subject_share
    assert untrained.mean == pytest.approx(half.subject_share.mean)
    assert figures.base.subject_share.high < untrained.low < figures.balance.subject_share.low
    assert len(report.untrained) == PLAN.prompts
    assert figures.pictures == replace(PLAN, untrained=True).pictures(word=False)
    report.save(tmp_path)
    opened = Report.open(tmp_path)
    assert opened.bought == report.bought != ""
    page = report_html.render(opened)
    assert report.bought in page
    assert report_html.UNTRAINED in page


def test_the_real_photos_are_above_the_adapter_and_the_adapter_above_the_base(good):
    f = good.figures
    assert f.real.low > f.base.subject_fidelity.high
    assert f.gained.low > 0
    assert f.real.mean > f.balance.subject_fidelity.mean > f.base.subject_fidelity.mean
    assert good.verdict.startswith("It knows your mug")


def test_the_strength_is_the_largest_that_still_follows_the_prompt(good):
    f = good.figures
    assert f.balance.strength == 0.8
    assert f.holds_until == 0.8
    assert "Above 0.8 it ignores the scene." in good.verdict
    by_strength = {level.strength: level for level in f.levels}
    assert by_strength[1.5].prompt_share.high < by_strength[0.8].prompt_share.low


def test_a_subject_that_is_little_like_its_class_is_recommended_stronger():
    """What its own photos lack of the class no picture of it can have."""
    strange = []
    for i in range(4):
        vector = np.zeros(AXES)
        vector[CLASS], vector[OWN], vector[-1 - i] = 0.1, 1.0, 0.4
        strange.append(written(vector, layout=900 + i))
    model = Model(knows=lambda s: 0.8 * s, follows=lambda s: max(0.0, 1.15 - 0.5 * s))
    usual, odd = report_of(model), report_of(model, strange)
    assert usual.figures.attainable == 1
    assert 0.2 < odd.figures.attainable < 0.8
    assert odd.figures.balance.strength > usual.figures.balance.strength
    # Of the base's own prompt fidelity it has little, which is most of what can be had.
    assert odd.figures.balance.prompt_share.high < FOLLOWS
    assert "follows the scene less well" not in odd.verdict


class LeakingAbove(Model):
    """The class becomes the subject above that strength."""

    def __init__(self, strength: float):
        super().__init__(knows=lambda s: 0.5 + 0.4 * s)
        self.highest = strength

    def one(self, strength: float, prompt: str, seed: int) -> Image.Image:
        self.leaks = 1.0 if strength > self.highest else 0.0
        return super().one(strength, prompt, seed)


def test_of_strengths_that_are_nearly_as_good_one_is_chosen_at_which_the_class_stays():
    def chosen(model: Model) -> tuple[float, bool]:
        figures = report_of(model).figures
        return figures.balance.strength, verdict.drifts(figures.drift.towards)

    assert chosen(LeakingAbove(2.0)) == (0.8, False)
    assert chosen(LeakingAbove(0.6)) == (0.5, False)
    # Too much would be given up for it.
    assert chosen(LeakingAbove(0.3)) == (0.8, True)


def test_an_adapter_of_no_effect_equals_the_base():
    report = report_of(Model(knows=lambda s: 0, follows=lambda s: 1))
    f = report.figures
    assert not f.gained.low > 0
    assert not f.drift.towards.differs()
    assert all(
        not level.prompt_share.differs(1) or level.prompt_share.low > 0.9 for level in f.levels
    )
    assert "has not learned your mug" in report.verdict


def test_a_wide_interval_is_said_to_be_one_and_not_that_nothing_was_learned(good):
    unsure = replace(good.figures, gained=Estimate(0.2, -0.1, 0.5))
    said = verdict.of(good.concept, unsure, ())
    assert "is not sure" in said
    assert "has not learned" not in said
    surely_little = replace(good.figures, gained=Estimate(0.0, -0.02, 0.02))
    assert "has not learned your mug" in verdict.of(good.concept, surely_little, ())


def test_the_same_weights_as_the_bases_give_exactly_the_bases_figures():
    model = Model()
    base_only = lambda strength, prompts, seeds: model(  # noqa: E731
        0.0, [plain_of(model, p) for p in prompts], seeds
    )
    trained = trained_on(MUG, mug_photos())
    renderer = Renderer(base_only)
    *_, report = measuring(trained, mug_photos(), renderer, model.encoder_pair, BUDGET)
    f = report.figures
    assert f.balance.subject_fidelity == f.base.subject_fidelity
    assert f.balance.prompt_share == Estimate(1, 1, 1)
    assert f.gained == Estimate(0, 0, 0)
    assert f.drift.unrelated.mean == pytest.approx(0, abs=1e-6)


def plain_of(model: Model, prompt: str) -> str:
    number = model.of_subject.get(prompt)
    return prompt if number is None else list(model.of_class)[number]


def test_an_overcooked_adapter_is_low_on_prompt_at_every_strength():
    report = report_of(Model(knows=lambda s: 1, follows=lambda s: 0.2))
    assert all(level.prompt_share.high < 0.9 for level in report.figures.levels)
    assert "follows the scene less well than the base" in report.verdict


def test_another_subject_of_the_class_is_low_on_subject(good):
    other = report_of(Model(subject=OTHER_SUBJECT)).figures
    assert other.balance.subject_fidelity.high < good.figures.balance.subject_fidelity.low
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
    trained = {(plain_of(model, p), s) for strength, p, s in model.drawn if strength}
    base = {(p, s) for strength, p, s in model.drawn if not strength}
    assert trained == base


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
    trained = trained_on(MUG, photos)
    report: Report | None = None
    while report is None:
        parts += 1
        batches = iter(range(3))  # of this part
        renderer = Renderer(
            model,
            ImageCache(tmp_path),
            out_of_time=lambda _, batches=batches: next(batches, None) is None,
        )
        for event in measuring(trained, photos, renderer, model.encoder_pair, BUDGET):
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
    trained = trained_on(MUG, mug_photos())
    *_, event = measuring(trained, mug_photos(), renderer, model.encoder_pair, Budget(None))
    assert isinstance(event, SliceEnded)
    assert list(tmp_path.glob("*.png"))
    assert ImageCache(tmp_path).plan is None
    assert not tmp_path.exists()


def test_as_many_pictures_are_drawn_as_the_plan_says():
    for method in ("lora", "textual_inversion"):
        model = Model(description=replace(MUG, method=method))
        report_of(model, description=replace(MUG, method=method))
        assert len(model.drawn) == PLAN.pictures(word=method == "textual_inversion")


def test_on_a_slow_machine_fewer_prompts_are_drawn():
    model = Model()
    photos = mug_photos()
    plans = (Plan(), Plan(prompts=4, seeds=1, class_pictures=4, unrelated=4))
    trained, budget = trained_on(MUG, photos), Budget(0.0, plans)
    *_, report = measuring(trained, photos, Renderer(model), model.encoder_pair, budget)
    assert report.figures.pictures == plans[1].pictures(word=False)


def test_a_learned_word_has_one_strength_and_nothing_to_lose():
    word = replace(MUG, method="textual_inversion")
    report = report_of(Model(description=word), description=word)
    assert [level.strength for level in report.figures.levels] == [1.0]
    assert report.figures.drift.towards == Estimate(0, 0, 0)
    assert "a word changes no weights" in report.verdict


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
        next(measuring(trained_on(MUG, []), [], Renderer(model), model.encoder_pair, BUDGET))
    assert not model.drawn


def test_photos_are_judged_as_they_were_trained_on(tmp_path, clip):
    photos = tiny.photos(3)
    crops = [crop(photo, AXES) for photo in photos]  # which the model's own encoder reads too
    encoder = ClipEncoder(clip)
    model = Model()
    trained = TrainedAdapter(Adapter(MUG, {}), photos, Cost())
    encoder_pair = EncoderPair(encoder, model.encoder_pair.prompt)
    *_, report = measuring(trained, crops, Renderer(model), encoder_pair, BUDGET)
    expected = metrics.among_themselves(encoder.images(crops)).mean()
    assert report.figures.reference == pytest.approx(float(expected))
