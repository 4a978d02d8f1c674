"""A run is a folder, and a step is a function of its number."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from personalization.adapters.adapter import read_tensors
from personalization.errors import RunError
from personalization.events import Checkpointed, Finished, Preview, SliceEnded, StepDone
from personalization.methods import installed
from personalization.recipe import Full, LearnedEmbedding, LowRank, Prior, Recipe
from personalization.training import loop, previews
from personalization.training.run import Run
from tests.support import tiny
from tests.support.silence import Silence

METHODS = {
    "word": Recipe(LearnedEmbedding(vectors=2), steps=6, batch_size=2, weight_decay=0.0),
    "lora": Recipe(LowRank("lora", rank=2, alpha=4), steps=6, batch_size=2),
    "lora with text": Recipe(LowRank("lora", rank=2, text_encoder=True), steps=6, batch_size=2),
    "dora": Recipe(LowRank("dora", rank=2), steps=6, batch_size=2),
    "loha": Recipe(LowRank("loha", rank=2), steps=6, batch_size=2),
    "lokr": Recipe(LowRank("lokr", rank=2), steps=6, batch_size=2),
    "pivotal": Recipe(
        LowRank("lora", rank=2, learned_embedding=LearnedEmbedding(1)), steps=6, batch_size=2
    ),
    "full": Recipe(Full(), steps=6, batch_size=2),
    "early stop": Recipe(LowRank("lora", rank=2), steps=6, batch_size=2, stop_early=True),
    "found subject": Recipe(LowRank("lora", rank=2), steps=6, batch_size=2, annotate=True),
    "prior images": Recipe(
        LowRank("lora", rank=2), steps=6, batch_size=2, prior=Prior("images", images=10)
    ),
    "full with prior": Recipe(
        Full(text_encoder=True), steps=6, batch_size=2, prior=Prior("images", images=10)
    ),
    "prior adapter off": Recipe(
        LowRank("lora", rank=2), steps=6, batch_size=2, prior=Prior("adapter_off")
    ),
}


@pytest.fixture(scope="module")
def base():
    base = tiny.base()
    base.spec = replace(base.spec, sampling=replace(base.spec.sampling, steps=2))
    return base


def new_run(folder: Path, recipe: Recipe) -> Run:
    recipe = replace(recipe, preview_every=4, checkpoint_every=4)
    placeholder_token = "<sks>" if recipe.method_name == "textual_inversion" else "sks"
    return Run.create(folder, tiny.concept(placeholder_token), recipe, "tiny")


def parameters(base) -> dict[str, torch.Tensor]:
    return {
        f"{name}.{key}": tensor.clone()
        for name, module in base.modules.items()
        for key, tensor in module.state_dict().items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_sliced_equals_unsliced_bit_for_bit(base, tmp_path, name):
    whole, sliced = (new_run(tmp_path / part, METHODS[name]) for part in ("whole", "sliced"))
    events = list(loop.train(base, whole, cache=tmp_path / "cache"))
    assert isinstance(events[-1], Finished)

    slices = 0
    while sliced.state.status != "finished":
        left = iter(range(2))
        stop = lambda left=left: next(left, None) is None  # noqa: E731
        events = list(loop.train(base, sliced, cache=tmp_path / "other cache", stop=stop))
        assert isinstance(events[-1], SliceEnded | Finished)
        slices += 1
    assert slices > 2
    a, b = read_tensors(whole.adapter_path), read_tensors(sliced.adapter_path)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [(r.step, r.loss, r.prior_loss) for r in whole.losses()] == [
        (r.step, r.loss, r.prior_loss) for r in sliced.losses()
    ]


@pytest.mark.parametrize("name", METHODS)
def test_a_run_changes_something_and_leaves_the_base_as_it_was(base, tmp_path, name):
    before = parameters(base)
    recipe = METHODS[name]
    run = new_run(tmp_path / "run", recipe)
    with installed(base, run.concept, recipe) as method:
        start = method.export().tensors
    list(loop.train(base, run, cache=tmp_path))
    learned = read_tensors(run.adapter_path)
    assert any(not torch.equal(learned[key], start[key]) for key in learned)
    after = parameters(base)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert base.text_encoders[0].tokenizer.get_added_vocab().keys().isdisjoint({"<sks>"})


def test_events_come_in_the_order_that_they_promise(base, tmp_path):
    run = new_run(tmp_path / "run", METHODS["lora"])
    silence = Silence()
    events = list(silence.heard(base, loop.train(base, run)))
    drawn = previews.steps(base.spec)
    assert silence.all >= 6 + drawn
    assert silence.most <= drawn  # of a preview, its pictures in one batch
    assert [e.step for e in events if isinstance(e, StepDone)] == [1, 2, 3, 4, 5, 6]
    assert [e.step for e in events if isinstance(e, Preview)] == [4]
    assert [e.step for e in events if isinstance(e, Checkpointed)] == [4, 6]
    assert isinstance(events[-1], Finished)
    assert events[-1].adapter.exists()


def test_a_finished_run_is_not_trained_again(base, tmp_path):
    run = new_run(tmp_path / "run", METHODS["lora"])
    list(loop.train(base, run))
    written = run.adapter_path.stat().st_mtime_ns
    assert [type(e) for e in loop.train(base, run)] == [Finished]
    assert run.adapter_path.stat().st_mtime_ns == written


def test_a_cancelled_run_keeps_what_there_is(base, tmp_path):
    run = new_run(tmp_path / "run", METHODS["lora"])
    for event in loop.train(base, run):
        if isinstance(event, StepDone) and event.step == 3:
            run.stop()
    assert isinstance(event, SliceEnded)
    assert event.step == 3
    done = loop.finish(base, run)
    assert done.stopped_early
    assert read_tensors(run.adapter_path)


def test_two_workers_cannot_train_one_run(base, tmp_path):
    run = new_run(tmp_path / "run", METHODS["lora"])
    with run.locked(), pytest.raises(RunError, match="already"):
        next(loop.train(base, run))


def test_a_loss_that_is_no_number_stops_the_run_at_the_last_good_checkpoint(base, tmp_path):
    recipe = Recipe(LowRank("lora", rank=2, learning_rate=1.0), steps=400, batch_size=2)
    run = Run.create(tmp_path / "run", tiny.concept(), replace(recipe, checkpoint_every=1), "tiny")
    events = loop.train(base, run)
    with pytest.raises(RunError, match="learning rate"):  # noqa: PT012
        for event in events:
            if isinstance(event, StepDone) and event.step == 2:
                for parameter in base.denoiser.parameters():
                    if parameter.requires_grad:
                        parameter.data.fill_(float("nan"))
    assert run.state.status == "failed"
    assert all(t.isfinite().all() for t in run.load_checkpoint()[0].values())


WORKER = """
import sys
from dataclasses import replace
from pathlib import Path
from personalization.training import loop
from personalization.events import StepDone
from personalization.training.run import Run
from tests.support import tiny
base = tiny.base()
for event in loop.train(base, Run.open(Path(sys.argv[1]))):
    if isinstance(event, StepDone):
        print(event.step, flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_with_sigkill_continues(base, tmp_path):
    recipe = replace(METHODS["lora"], steps=12)
    killed, whole = new_run(tmp_path / "killed", recipe), new_run(tmp_path / "whole", recipe)
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(killed.folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    for line in process.stdout:
        if line.strip() == "6":
            process.send_signal(signal.SIGKILL)
            break
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert killed.state.step == 4  # the last checkpoint
    half = killed.folder / "checkpoint.safetensorsabc.part"  # as a kill while writing leaves it
    half.write_bytes(b"half")
    list(loop.train(base, killed))
    assert not half.exists()
    list(loop.train(base, whole))
    a, b = read_tensors(killed.adapter_path), read_tensors(whole.adapter_path)
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert [row.step for row in killed.losses()] == list(range(1, 13))


def test_a_full_disk_stops_with_a_sentence_and_the_run_continues(base, tmp_path, monkeypatch):
    import errno

    run = new_run(tmp_path / "run", METHODS["lora"])
    save = Run.save_checkpoint

    def full(self, tensors, step, *more):
        if step == 6:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(self, tensors, step, *more)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "save_checkpoint", full)
        with pytest.raises(RunError, match="disk is full"):
            list(loop.train(base, run))
    assert run.state.step == 4
    assert isinstance(list(loop.train(base, run))[-1], Finished)


def test_a_full_memory_stops_with_a_sentence_and_the_run_continues(base, tmp_path):
    run, calls = new_run(tmp_path / "run", METHODS["lora"]), []

    def more_than_there_is():  # as PyTorch itself says it
        calls.append(1)
        return len(calls) > 4 and bool(torch.empty(2**60, dtype=torch.uint8).any())

    with pytest.raises(RunError, match=r"memory is full\. The run is kept up to step"):
        list(loop.train(base, run, stop=more_than_there_is))
    assert isinstance(list(loop.train(base, run))[-1], Finished)


@pytest.mark.slow
def test_a_run_whose_fixed_loss_has_settled_ends_early_and_says_so(base, tmp_path):
    # Without a learning rate to speak of, the first looks fall and the later ones cannot move.
    recipe = Recipe(
        LowRank("lora", rank=2, learning_rate=1e-2), steps=400, batch_size=2, stop_early=True
    )
    run = Run.create(tmp_path / "run", tiny.concept(), replace(recipe, decay=True), "tiny")
    done = list(loop.train(base, run))[-1]
    assert isinstance(done, Finished)
    assert done.stopped_early == (done.step < 400)
    looks = [row.fixed_batch_loss for row in run.losses() if row.fixed_batch_loss is not None]
    assert recipe.settled(looks) == done.stopped_early


def test_a_loss_has_settled_when_its_last_window_varies_little():
    recipe = Recipe(LowRank(), steps=100, stop_early=True)
    falling = [1 - 0.05 * i for i in range(20)]
    assert not recipe.settled(falling)
    assert recipe.settled(falling + [falling[-1]] * 8)
    assert not replace(recipe, stop_early=False).settled(falling + [falling[-1]] * 8)
