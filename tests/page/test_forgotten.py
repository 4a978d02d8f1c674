"""After "Forget me" nothing is served any more that was: neither what came nor what went."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from gradio.utils import get_upload_folder
from PIL import Image

from personalization.page.exchange import files_of
from personalization.page.session import workspaces
from personalization.page.things import remove
from personalization.page.uploads import publish_file
from tests.support.events import Events, the_page


def png(shade: int) -> bytes:
    content = BytesIO()
    Image.effect_noise((96, 96), shade).convert("RGB").save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def page():
    with the_page() as events:
        yield events


def test_nothing_is_left_of_photo_canvas_and_files(page: Events):
    import app

    photos, workspace = app.word_tab.photos, workspaces().new()
    mine = {photos.visitor: workspace.id}
    upload = page.upload("me.png", png(90))
    page.send(page.of(photos.add), {**mine, photos.drop: [upload], photos.keys: []})
    (key,) = workspace.photo_keys()
    opened = next(
        number
        for number, each in app.demo.fns.items()
        if each.targets == [(photos.mask.fold._id, "expand")]
    )
    canvas = page.send(opened, {**mine, photos.mask.which: key})["data"][0]
    files, _ = files_of(workspace, "crowned-dog")
    there = [upload["path"], canvas["background"]["path"], canvas["layers"][0]["path"], *files]
    assert all(map(page.is_served, there))
    assert page.send(page.of(app.forget), {app.browser: workspace.id})["data"] == [""]
    assert not any(map(page.is_served, there))
    assert not any(Path(path).exists() for path in there)
    assert not workspace.folder.exists()
    late = page.send(page.of(photos.add), {**mine, photos.drop: [upload], photos.keys: []})
    assert "was deleted, as you asked" in str(late)
    assert not workspace.folder.exists()


def test_another_visitors_same_photo_stays(page: Events):
    import app

    photos, first, second = app.word_tab.photos, workspaces().new(), workspaces().new()
    for workspace in (first, second):
        upload = page.upload("same.png", png(91))
        values = {photos.visitor: workspace.id, photos.drop: [upload], photos.keys: []}
        page.send(page.of(photos.add), values)
        assert len(workspace.photo_keys()) == 1
    page.send(page.of(app.forget), {app.browser: first.id})
    assert page.is_served(upload["path"])
    page.send(page.of(app.forget), {app.browser: second.id})
    assert not page.is_served(upload["path"])


def test_a_deleted_picture_is_not_served(page: Events):
    workspace = workspaces().new()
    (workspace.pictures / "a.png").write_bytes(png(92))
    copy = publish_file(workspace, workspace.pictures / "a.png")
    assert page.is_served(copy)
    assert publish_file(workspace, workspace.pictures / "a.png") == copy
    remove(workspace, "picture")
    assert not page.is_served(copy)
    workspace.delete()


def test_what_the_machine_has_else_is_not_served(page: Events, tmp_path: Path):
    workspace = workspaces().new()
    (workspace.pictures / "a.png").write_bytes(png(93))
    (tmp_path / "secret.txt").write_text("secret")
    served = get_upload_folder()
    for path in (
        *("/etc/passwd", tmp_path / "secret.txt", workspace.pictures / "a.png", served),
        *(
            f"{served}/../../etc/passwd",
            "app.py",
            "../app.py",
            "%2e%2e/app.py",
            "file:///etc/passwd",
        ),
        *("http://127.0.0.1:1/", "http://localhost/", "http://169.254.169.254/latest/meta-data"),
    ):
        assert not page.is_served(str(path)), path
    workspace.delete()
