"""Every kind of write of the app, over and over in a workspace, and what has to be there after it.

The n-th write of a kind differs from all others, so that what is found says which one it is of.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import torch
from PIL import Image

from personalization.adapters import adapter as adapters
from personalization.adapters.adapter import Adapter, Description
from personalization.bases.catalog import ASSETS
from personalization.data.concept import Concept
from personalization.data.photos import Photo
from personalization.errors import PersonalizationError, WorkspaceError
from personalization.evaluation.evaluate import store
from personalization.evaluation.plan import Plan
from personalization.evaluation.renderer import ImageCache
from personalization.evaluation.report import Report
from personalization.page.pictures import keep
from personalization.page.uploads import publish_file, publish_pictures
from personalization.recipe import LearnedEmbedding, Recipe
from personalization.sampling.picture_record import Picture, read_record
from personalization.sharing import publish, upload
from personalization.training.run import LossRow, Run
from personalization.workspaces import archive, belongings
from personalization.workspaces.workspace import Workspace
from tests.support import hub_server, random_adapters, tiny
from tests.support.known import Model, report_of

RECIPE = Recipe(LearnedEmbedding(), 1000)
LARGE = 300_000  # numbers: their writing takes a while
THREE = 3  # photos that are deleted at once


@dataclass(frozen=True)
class Kind:
    """`write(workspace, n)` is whole once it returns. `faults(workspace, done)` are sentences of
    what is lost, half or wrong after `done` writes and perhaps a part of the next."""

    write: Callable[[Workspace, int], object]
    faults: Callable[[Workspace, int], Iterator[str]]
    prepare: Callable[[Workspace], object] = lambda workspace: None


def noise(number: int) -> Image.Image:
    """A picture like no other's."""
    values = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(number))
    return Image.fromarray(values.to(torch.uint8).numpy())


def a_run(workspace: Workspace, name: str = "run") -> Run:
    folder = workspace.folder / "runs" / name
    if (folder / "run.json").exists():
        return Run.open(folder)
    photos = (Photo("a.png", noise(1)), Photo("b.png", noise(2)))
    return Run.create(folder, Concept("object", "<mug>", "mug", photos), RECIPE, "pocket")


def word(number: int, size: int = 9000) -> Adapter:
    about = Description("textual_inversion", "pocket", placeholder_token="<mug>")
    return Adapter(
        replace(about, title=f"t{number}"), {"<mug>": torch.full((1, size), 1.0 + number)}
    )


def number_of(path: Path) -> int:
    """Which word a file holds. Raises what reading it does."""
    read = adapters.read(path)
    values = set(read.tensors["<mug>"].flatten().tolist())
    if len(values) != 1:
        raise ValueError(f"{path.name} is of several writes")
    return int(values.pop()) - 1


# A run's checkpoint and its log


def write_checkpoint(workspace: Workspace, n: int) -> None:
    run, step = a_run(workspace), n + 1
    run.log([LossRow(step, float(step), None, 1.0)])
    run.save_checkpoint({"a": torch.full((LARGE,), float(step))}, step, float(step))


def checkpoint_faults(workspace: Workspace, done: int) -> Iterator[str]:
    run = a_run(workspace)
    tensors, step, seconds = run.load_checkpoint() or ({"a": torch.zeros(1)}, 0, 0.0)
    if step not in (done, done + 1):
        yield f"lost: the checkpoint of step {done}, there is {step}"
    if set(tensors["a"].tolist()) != {float(step)} or seconds != step:
        yield f"half: the checkpoint of step {step}"
    if run.state.step not in (step, step - 1):
        yield f"wrong: the state says {run.state.step} and the checkpoint {step}"
    logged = [row.step for row in run.losses()]
    if logged != list(range(1, len(logged) + 1)) or not done <= len(logged) <= done + 1:
        yield f"lost: of the log's {done} lines there are {logged}"


# Files that replace each other, and files beside each other


def adapter_faults(workspace: Workspace, done: int) -> Iterator[str]:
    path = a_run(workspace).adapter_path
    if done or path.exists():
        found = number_of(path)
        if found not in (done - 1, done):
            yield f"lost: adapter {done - 1}, there is {found}"


def write_library(workspace: Workspace, n: int) -> None:
    entry = workspace.library.add(word(n), f"word {n}")
    workspace.library.rename(entry.name, f"title {n}")


def library_faults(workspace: Workspace, done: int) -> Iterator[str]:
    found = {}
    for entry in workspace.library.list():
        if entry.own:
            if entry.description is None:
                yield f"half: {entry.error}"
                continue
            number = number_of(entry.path)
            found[number] = entry.description.title
    for number in range(done):
        if found.pop(number, "") != f"title {number}":
            yield f"lost: adapter {number} with its title"
    if found and found not in ({done: f"t{done}"}, {done: f"title {done}"}):
        yield f"wrong: {found} beside {done} adapters"


@cache
def _record() -> Picture:
    record = read_record(ASSETS / "adapters" / "neon" / "0.png")
    assert record
    return Picture(noise(0), record)


def picture(number: int) -> Picture:
    return Picture(noise(number), replace(_record().record, seed=number))


def pictures_faults(folder: Path, done: int, exactly: bool) -> Iterator[str]:
    seeds = []
    for path in sorted(folder.glob("*.png")):
        record = read_record(path)
        if record is None:
            yield f"half: {path.name}"
            continue
        with Image.open(path) as image:
            if image.tobytes() != noise(record.seed).tobytes():
                yield f"half: picture {record.seed}"
        seeds.append(record.seed)
    if missing := set(range(done)) - set(seeds):
        yield f"lost: pictures {sorted(missing)}"
    if len(seeds) > done + exactly:
        yield f"wrong: {len(seeds)} pictures of {done}"


def write_picture(workspace: Workspace, n: int) -> None:
    picture(n).save(a_run(workspace).folder / "pictures" / f"{n}.png")


def write_album(workspace: Workspace, n: int) -> None:
    if notes := keep(workspace, publish_pictures(workspace, [picture(n)])):
        raise WorkspaceError(notes[0])


def write_report(workspace: Workspace, n: int) -> None:
    run = a_run(workspace, f"run-{n}")
    word(n).save(run.adapter_path)
    store(run, replace(_report(), limits=(f"number {n}.",)))


def report_faults(workspace: Workspace, done: int) -> Iterator[str]:
    for folder in (workspace.folder / "runs").glob("run-*"):
        if not (folder / "run.json").exists():
            continue  # the one that was just being made: it is no run yet
        n = int(folder.name.removeprefix("run-"))
        report = Report.open(folder)
        if report is None and n < done:
            yield f"lost: report {n}"
        if report is not None:
            if report.limits != (f"number {n}.",):
                yield f"wrong: report {n}"
            if not (folder / "report.html").read_text().rstrip().endswith("</html>"):
                yield f"half: the page of report {n}"
            if not adapters.read(folder / "adapter.safetensors").description.report:
                yield f"wrong: adapter {n} knows no report"


@cache
def _report() -> Report:
    report = report_of(Model())
    return replace(report, shots=report.shots[:2], sweep=report.sweep[:2])


def prepare_cache(workspace: Workspace) -> None:
    folder = a_run(workspace).folder / "cache"
    folder.mkdir()
    ImageCache(folder).agree(Plan())


def write_cache(workspace: Workspace, n: int) -> None:
    ImageCache(a_run(workspace).folder / "cache").put(f"picture {n}", noise(n))


def cache_faults(workspace: Workspace, done: int) -> Iterator[str]:
    kept = ImageCache(a_run(workspace).folder / "cache")
    for n in range(done + 1):
        found = kept.get(f"picture {n}")
        if found is None and n < done:
            yield f"lost: picture {n} of the cache"
        if found is not None and found.tobytes() != noise(n).tobytes():
            yield f"half: picture {n} of the cache"


def write_upload(workspace: Workspace, n: int) -> None:
    workspace.save_photos([Photo(f"{n}.png", noise(n))])


def upload_faults(workspace: Workspace, done: int) -> Iterator[str]:
    photos = workspace.photos(workspace.photo_keys())
    names = {photo.name for photo in photos}
    if missing := {f"{n}.png" for n in range(done)} - names:
        yield f"lost: photos {sorted(missing)}"
    if any(p.image.tobytes() != noise(int(p.name[:-4])).tobytes() for p in photos):
        yield "half: a photo"


# Deletion: three photos at a time, and every second time they are brought back


def names_of(n: int) -> list[str]:
    return [f"{n}-{each}.png" for each in range(THREE)]


def prepare_photos(workspace: Workspace) -> None:
    for n in range(MOST):
        for name in names_of(n):
            (workspace.folder / "photos" / name).write_bytes(name.encode() * 500)


def write_deletion(workspace: Workspace, n: int) -> None:
    ticket = belongings.delete(workspace, "photo", names_of(n)).ticket
    if n % 2:
        workspace.trash.put_back(ticket)


def deletion_faults(workspace: Workspace, done: int) -> Iterator[str]:
    there = {path.name for path in (workspace.folder / "photos").iterdir()}
    for n in range(MOST):
        left = there.intersection(names_of(n))
        gone = n < done and not n % 2
        if n == done:
            continue  # it may have been deleted, as was asked
        if len(left) != (0 if gone else THREE):
            yield f"{'wrong' if gone else 'lost'}: {len(left)} of the photos of deletion {n}"
    for path in (workspace.folder / "photos").iterdir():
        if path.read_bytes() != path.name.encode() * 500:
            yield f"half: {path.name}"


# What goes out


def write_download(workspace: Workspace, n: int) -> None:
    (workspace.folder / "presets").mkdir(exist_ok=True)
    workspace.presets.keep(f"number {n}", RECIPE)
    path = archive.write(workspace, Path(publish_file(workspace, _readme(), f"{n}.zip")))
    shutil.unpack_archive(path, workspace.folder.parent / "unpacked", "zip")
    shutil.rmtree(workspace.folder.parent / "unpacked")


def _readme() -> Path:
    return Path(__file__)


def download_faults(workspace: Workspace, done: int) -> Iterator[str]:
    names = workspace.presets.names()
    if missing := {f"number-{n}" for n in range(done)} - set(names):
        yield f"lost: presets {sorted(missing)}"
    for name in names:
        if workspace.presets.get(name) != RECIPE:
            yield f"half: {name}"


class Publishing:
    """Adapters on a Hub of this machine's, each in a repository of its own."""

    def __init__(self, hub: hub_server.Hub) -> None:
        self.hub = hub
        self.spec = replace(tiny.spec(), licence="creativeml-openrail-m")
        self.adapter = random_adapters.make().described(
            placeholder_token="sks", class_noun="mug", title="A mug", recipe={"steps": 100}
        )

    def write(self, workspace: Workspace, n: int) -> None:
        name = f"{workspace.id[:9].strip('-_')}-{n}".replace("_", "x").replace("--", "-")
        wish = publish.Wish(name, private=False, licence=self.spec.licence)
        made = publish.prepare(self.adapter, self.spec, wish, None)
        upload.upload(made, self.hub.token, endpoint=self.hub.url)

    def faults(self, workspace: Workspace, done: int) -> Iterator[str]:
        begin = workspace.id[:9].strip("-_").replace("_", "x").replace("--", "-")
        mine = {k: v for k, v in self.hub.repositories.items() if f"/{begin}-" in k}
        whole = [n for n, each in mine.items() if {"README.md", "recipe.json"} <= set(each.files)]
        if len(whole) not in (done, done + 1):
            yield f"lost: {len(whole)} adapters are published of {done}"
        for name in set(mine) - set(whole):
            if set(mine[name].files) - {".gitattributes"}:
                yield f"half: {name} holds {sorted(mine[name].files)}"


MOST = 24  # writes of one kind


def kinds(hub: hub_server.Hub) -> dict[str, Kind]:
    """All of them by name."""
    online = Publishing(hub)
    return {
        "checkpoint": Kind(write_checkpoint, checkpoint_faults, a_run),
        "adapter": Kind(
            lambda w, n: word(n, LARGE).save(a_run(w).adapter_path), adapter_faults, a_run
        ),
        "library": Kind(write_library, library_faults),
        "picture": Kind(
            write_picture,
            lambda w, done: pictures_faults(a_run(w).folder / "pictures", done, True),
            a_run,
        ),
        "report": Kind(write_report, report_faults, lambda w: _report()),
        "album": Kind(write_album, lambda w, done: pictures_faults(w.pictures, done, True)),
        "cache": Kind(write_cache, cache_faults, prepare_cache),
        "upload": Kind(write_upload, upload_faults),
        "deletion": Kind(write_deletion, deletion_faults, prepare_photos),
        "download": Kind(write_download, download_faults),
        "publish": Kind(online.write, online.faults),
    }


def faults_in(kind: Kind, workspace: Workspace, done: int) -> list[str]:
    """What is not as it should be; what cannot be read is half."""
    found: list[str] = []
    try:
        for fault in kind.faults(workspace, done):
            found.append(fault)
    except (PersonalizationError, OSError, ValueError, SyntaxError) as error:
        found.append(f"half: {type(error).__name__}: {error}")
    return found
