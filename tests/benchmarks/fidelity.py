"""How well the defaults teach, on subjects, styles and words that the pocket never saw named.

    python -m tests.benchmarks.fidelity [--json FILE] [--work DIR] [--workers N] [--subjects N ...]

Twelve held-out subjects and four held-out styles by LoRA with the default recipe; the subjects
again with the other prior, with none, and with what the form's answers make of the recipe; and the
words that were taken out of the tokenizer, learned anew and measured against the embedding that was
taken out. What a perfect lesson would reach is measured too, on the world's own drawings of the
same prompts.

The photos are drawn here, the prompts and seeds are the report's. Each case is a file in --work,
so a benchmark that was broken off continues; figures are means over cases with 95 % intervals over
them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file

from personalization import bases
from personalization.adapters.adapter import Adapter, Description, read
from personalization.bases import encoders
from personalization.bases.base import Base
from personalization.bases.catalog import ASSETS, CATALOG
from personalization.data.concept import Concept, Kind
from personalization.data.frames import crop
from personalization.data.photos import Photo
from personalization.evaluation.evaluate import SAMPLING, evaluating
from personalization.evaluation.figures import Level
from personalization.evaluation.measure import measuring
from personalization.evaluation.metrics import interval
from personalization.evaluation.plan import PLANS, Budget, Plan
from personalization.evaluation.renderer import Drawing, ImageCache, Renderer
from personalization.evaluation.report import Report
from personalization.evaluation.trained_adapter import TrainedAdapter, with_contents
from personalization.events import Finished
from personalization.files import write_atomically
from personalization.pocket.world import SUBJECTS, Scene, sample, vocabulary
from personalization.pocket.world import draw as draw_scene
from personalization.pocket.world.scene import sample_setting
from personalization.pocket.world.subjects import STYLE_SUBJECTS, held_out_word_scenes
from personalization.recipe import Prior, Recipe
from personalization.sampling.generate import draw_each
from personalization.sampling.settings import Settings
from personalization.training import loop, presets
from personalization.training.presets import Intent
from personalization.training.run import Run

SPEC = CATALOG["pocket"]
PHOTOS, SEED = 5, 2026
STEPS = round(SAMPLING * SPEC.sampling.steps)  # of the sampler, as the report draws
CREATURES = {"dog", "cat", "bear", "rabbit", "owl", "elephant", "snail", "penguin", "robot"}
WITH_CEILING = ("LoRA, prior images", "LoRA, style")
PRIORS = ("images", "adapter off", "none")
PRESETS = {
    "rough": Intent(exact="rough"),
    "exact": Intent(exact="exact"),
    "with others": Intent(where="stack"),
    "person": Intent("person"),
}
WORDED = ("rough", "exact")  # the presets that a word has
# What a word that was taken out starts from: the nearest that is still there.
HELD_OUT_WORDS = {"watercolour": ("style", "cartoon"), "neon": ("style", "cartoon"),
            "teal": ("style", "blue")}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """One run with its report."""

    group: str
    name: str
    kind: Kind
    placeholder_token: str
    class_noun: str
    scenes: list[Scene]
    recipe: Recipe

    @property
    def key(self) -> str:
        return f"{self.group}-{self.name}".replace(" ", "-")


def prior(kind: str) -> Prior | None:
    """The default's, by name."""
    own = SPEC.recipes["subject"].prior or Prior()
    if kind == "none":
        return None
    return replace(own, kind="images" if kind == "images" else "adapter_off")


def cases() -> Iterator[Case]:
    """Everything that is measured, in the order in which it is."""
    recipe = SPEC.recipes["subject"]
    for name, subject in SUBJECTS.items():
        kind: Kind = "creature" if subject.class_noun in CREATURES else "object"
        scenes = subject.scenes(PHOTOS, SEED)
        # The two classes that the base does not know go by the nearest that it does.
        class_noun = {"owl": "bird", "elephant": "bear", "snail": "frog", "rocket": "boat"}.get(
            subject.class_noun, subject.class_noun
        )
        for chosen in PRIORS:
            changed = recipe.changed(prior=prior(chosen))
            yield Case(f"LoRA, prior {chosen}", name, kind, "sks", class_noun, scenes, changed)
        for preset, intent in PRESETS.items():
            changed = presets.recipe_of(SPEC, "lora", intent)
            yield Case(f"LoRA, {preset}", name, kind, "sks", class_noun, scenes, changed)
    unkept = presets.recipe_of(SPEC, "lora", Intent("style"))  # as the page: no class to keep
    for name, style in STYLE_SUBJECTS.items():
        yield Case("LoRA, style", name, "style", "sks", "cartoon",
                   style.scenes(PHOTOS, SEED), unkept)  # fmt: skip
    for word, (_, start) in HELD_OUT_WORDS.items():
        for group, intent in (("word", Intent()), *((f"word, {n}", PRESETS[n]) for n in WORDED)):
            learned = presets.recommend(SPEC, "word", intent, full=False).recipe
            scenes = held_out_word_scenes(word, PHOTOS, SEED)
            yield Case(group, word, "style", "<w>", start, scenes, learned)


def photos_of(case: Case) -> tuple[Photo, ...]:
    return tuple(
        Photo(f"{case.name} {i}", draw_scene(scene, 2 * SPEC.size))
        for i, scene in enumerate(case.scenes)
    )


def train(
    case: Case, photos: tuple[Photo, ...], cache: Path
) -> tuple[Adapter, Sequence[Photo], dict[str, float]]:
    """The adapter, the photos as they were read, and the seconds by the clock and the processor."""
    concept = Concept(case.kind, case.placeholder_token, case.class_noun, photos)
    with tempfile.TemporaryDirectory() as folder:
        recipe = case.recipe.changed(preview_every=0)
        run = Run.create(Path(folder) / "run", concept, recipe, SPEC.name)
        base = bases.load(SPEC)
        started = time.process_time()
        done = [e for e in loop.train(base, run, cache=cache) if isinstance(e, Finished)]
        processor = time.process_time() - started
        took = {"seconds": done[-1].seconds, "processor seconds": processor}
        return read(run.adapter_path), list(with_contents(run)), took


def ceiling(word: str, like: Adapter) -> Adapter:
    """The embedding that was taken out, in place of the learned one."""
    row = load_file(ASSETS / "pocket" / "held_out_words.safetensors")[word].reshape(1, -1).float()
    name = next(iter(like.tensors))
    about: Description = replace(like.description, title=f"the word {word} itself")
    return Adapter(about, {name: row.to(like.tensors[name])})


def beginning(case: Case, like: Adapter) -> Adapter:
    """The embedding that a word started from, in place of the learned one."""
    encoder = bases.load(SPEC).text_encoders[0]
    weights = encoder.model.get_input_embeddings().weight
    ids = encoder.tokenizer(case.class_noun, add_special_tokens=False).input_ids
    row = weights[torch.tensor(ids)].mean(0, keepdim=True).detach().float()
    name = next(iter(like.tensors))
    about = replace(like.description, title="what it started from")
    return Adapter(about, {name: row.to(like.tensors[name])})


def asked_scene(case: Case, prompt: str, seed: int) -> Scene:
    """What a prompt of the report's asks for, with the case's own subject or style in it."""
    rng = np.random.default_rng(seed)
    scene = sample(rng, held_out_words=False)
    if case.name in SUBJECTS:
        likeness = SUBJECTS[case.name].likeness
        scene = replace(likeness, **sample_setting(rng, likeness.colour))
    else:
        kind = next(kind for kind in vocabulary.CLASSES if kind in prompt)
        scene = replace(scene, kind=kind, style=case.name, accessory="none")
    for place in vocabulary.PLACES:
        if place in prompt:
            scene = replace(scene, place=place, backdrop=None)
    for accessory in vocabulary.ACCESSORIES:
        if f"wearing {accessory}" in prompt or f"wearing a {accessory}" in prompt:
            scene = replace(scene, accessory=accessory)
    return replace(scene, style="sketch") if "pencil sketch" in prompt else scene


def perfect(case: Case, adapter: Adapter, photos: tuple[Photo, ...]) -> tuple[float, float]:
    """The subject and the prompt share of the world's own drawings of the report's prompts.

    Less than one: glasses hide a face, a sketch has no colours, a crown makes way for a hat; and an
    owl, asked for as the bird that it is to this base, is not what its judge calls a bird.
    """
    base = bases.load(SPEC)

    def draw(
        strength: float | None, prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        if not strength:
            return draw_each(base, prompts, seeds, Settings(steps=STEPS))
        asked = zip(prompts, seeds, strict=True)
        return [draw_scene(asked_scene(case, prompt, seed), SPEC.size) for prompt, seed in asked]

    # Drift is no matter of a drawing's: as few pictures for it as can be.
    found = judged(adapter, photos, draw, replace(PLANS[1], class_pictures=2, unrelated=2))
    return found["subject_fidelity_share"], found["prompt_fidelity_share"]


def judged(adapter: Adapter, photos: Sequence[Photo], draw: Drawing, plan: Plan) -> dict[str, Any]:
    """The report's figures at full strength over any way of drawing."""
    encoder_pair = encoders.encoder_pair(SPEC, torch.device("cpu"))
    crops = [crop(photo, SPEC.size) for photo in photos]
    budget = Budget(None, (replace(plan, strengths=(1.0,)),))
    trained = TrainedAdapter.of_adapter(adapter, photos)
    events = measuring(trained, crops, Renderer(draw), encoder_pair, budget)
    return figures(next(event for event in events if isinstance(event, Report)))


def ceilings(found: dict[str, Any], subject: float, prompt: float) -> dict[str, float]:
    """What a perfect lesson would reach, and how much of that was reached."""
    return {
        "perfect subject_fidelity": subject,
        "subject_fidelity of the perfect": found["subject_fidelity_share"] / subject,
        "perfect prompt_fidelity": prompt,
        "prompt_fidelity of the perfect": found["prompt_fidelity_share"] / prompt,
    }


def figures(report: Report) -> dict[str, Any]:
    """What the table is made of."""
    found = report.figures
    assert found is not None, report.limits
    return {
        "subject_fidelity_share": found.balance.subject_share.mean,
        "subject_fidelity": found.balance.subject_fidelity.mean,
        "way": found.subject_progress if found.one_thing else None,
        "prompt_fidelity_share": found.balance.prompt_share.mean,
        "attainable": found.attainable,
        "strength": found.balance.strength,
        "drift": found.drift.towards.mean,
        "unrelated": found.drift.unrelated.mean,
        "preservation": found.drift.preservation.mean,
        "base preservation": found.drift.base_preservation.mean,
        "copies": found.copying.copies / max(1, found.copying.outputs),
        "verdict": report.verdict,
        "levels": [at(level) for level in found.levels],
    }


def at(level: Level) -> dict[str, float]:
    """One strength of the report's sweep."""
    return {
        "strength": level.strength,
        "subject_fidelity_share": level.subject_share.mean,
        "prompt_fidelity_share": level.prompt_share.mean,
    }


@lru_cache(maxsize=1)
def pictures() -> ImageCache:
    """What this process has drawn: the untouched base's pictures serve every case of a subject."""
    return ImageCache()


def report_of(base: Base, trained: TrainedAdapter) -> Report:
    """By the report's second plan."""
    events = evaluating(base, trained, Budget(None, PLANS[1:2]), image_cache=pictures())
    return next(event for event in events if isinstance(event, Report))


def once(path: Path, found: Callable[[], Sequence[float]]) -> tuple[float, float]:
    """What does not depend on what was learned: kept in a file, for every case that asks."""
    if not path.exists():
        write_atomically(path, json.dumps(found()))
    first, second = json.loads(path.read_text())
    return first, second


def measure(case: Case, cache: Path) -> dict[str, Any]:
    """Teach one case and report on it."""
    base, photos, folder = bases.load(SPEC), photos_of(case), cache.parent
    adapter, read_photos, took = train(case, photos, cache)

    def reported(adapter: Adapter) -> dict[str, Any]:
        trained = TrainedAdapter.of_adapter(adapter, read_photos)
        return figures(report_of(base, trained))

    adapter.save(folder / f"{case.key}.safetensors")
    found = reported(adapter)
    found |= {"group": case.group, "name": case.name} | took
    if case.group.startswith(WITH_CEILING):
        path = folder / f"perfect-{case.name}.json"
        found |= ceilings(found, *once(path, lambda: perfect(case, adapter, photos)))
    if case.name in HELD_OUT_WORDS:
        ends = (ceiling(case.name, adapter), beginning(case, adapter))
        found["ceiling"], found["start"] = once(
            folder / f"ends-{case.name}.json",
            lambda: [reported(end)["subject_fidelity"] for end in ends],
        )
        found["of the ceiling"] = found["subject_fidelity"] / found["ceiling"]
    return found


def spread(values: list[float]) -> str:
    """Mean and interval over cases."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    found = interval(torch.tensor(values))
    return f"{found.mean:.2f} ({found.low:.2f} to {found.high:.2f})"


def table(found: list[dict[str, Any]]) -> str:
    """By group, the figures that the defaults are judged by."""
    rows = []
    shown: dict[str, Callable[[dict[str, Any]], float | None]] = {
        "subject fidelity / real photos": lambda case: case["subject_fidelity_share"],
        "subject fidelity, perfect drawings": lambda case: case.get("perfect subject_fidelity"),
        "subject fidelity / perfect": lambda case: case.get("subject_fidelity of the perfect"),
        "way from base to photos": lambda case: case["way"],
        "prompt fidelity / untouched base": lambda case: case["prompt_fidelity_share"],
        "prompt fidelity, perfect drawings": lambda case: case.get("perfect prompt_fidelity"),
        "prompt fidelity that can be had": lambda case: case.get("attainable"),
        "prompt fidelity / perfect": lambda case: case.get("prompt_fidelity of the perfect"),
        "drift towards subject": lambda case: case["drift"],
        "change of unrelated": lambda case: case["unrelated"],
        "copies": lambda case: case["copies"],
        "share of the ceiling": lambda case: case.get("of the ceiling"),
        "strength": lambda case: case["strength"],
        "seconds": lambda case: case["seconds"],
    }
    for group in dict.fromkeys(case["group"] for case in found):
        some = [case for case in found if case["group"] == group]
        rows.append(f"{group} ({len(some)})")
        for title, value in shown.items():
            values = [v for v in map(value, some) if v is not None]
            if values:
                rows.append(f"    {title:34}{spread(values)}")
    return "\n".join(rows)


def work(folder: Path, names: list[str]) -> None:
    """Measure these cases, one file each; what is there is not done again."""
    for case in cases():
        path = folder / f"{case.key}.json"
        if case.key in names and not path.exists():
            started = time.time()
            found = measure(case, folder / "cache")
            write_atomically(path, json.dumps(found, indent=1))
            print(f"{case.key}: {time.time() - started:.0f} s, {found['verdict']}", flush=True)


def chosen(arguments: argparse.Namespace) -> list[Case]:
    subjects = list(SUBJECTS)[: arguments.subjects]
    return [
        case
        for case in cases()
        if (case.name in subjects or case.name not in SUBJECTS)
        and (not arguments.groups or any(case.group.startswith(g) for g in arguments.groups))
    ]


def in_processes(
    benchmark: str, folder: Path, option: str, names: Sequence[str], workers: int
) -> bool:
    """Share the names out between workers that write into the folder; whether one failed."""
    command = [sys.executable, "-m", f"tests.benchmarks.{benchmark}", "--work", str(folder)]
    # Processes of one thread each: small pictures do not keep two threads of one busy.
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    started = [
        subprocess.Popen([*command, option, *names[i::workers]], env=environment)
        for i in range(min(workers, len(names)))
    ]
    return any([process.wait() for process in started])  # noqa: C419 -- waits for every one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--work", type=Path, help="keep the cases here (default: a temporary one)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--subjects", type=int, default=len(SUBJECTS), help="of the twelve")
    parser.add_argument("--groups", nargs="+", help="only these, by how their names begin")
    parser.add_argument("--cases", nargs="+", help=argparse.SUPPRESS)  # of a worker
    arguments = parser.parse_args()
    if arguments.cases:
        torch.set_num_threads(1)
        work(arguments.work, arguments.cases)
        return
    wanted = chosen(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.work or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        keys = [case.key for case in wanted]
        failed = in_processes("fidelity", folder, "--cases", keys, arguments.workers)
        found = [
            json.loads(path.read_text())
            for path in (folder / f"{key}.json" for key in keys)
            if path.exists()
        ]
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n")
    if failed:
        raise SystemExit("some cases failed, see above")


if __name__ == "__main__":
    main()
