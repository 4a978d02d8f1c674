"""What nobody asks for goes by itself, within its bound, and the owner reads what is left."""

from __future__ import annotations

import os
from pathlib import Path

from personalization.page.housekeeping import tidy
from personalization.workspaces.workspace import Workspaces


def test_what_is_old_goes_what_was_deleted_goes_and_the_owner_is_told(tmp_path: Path):
    store, served = Workspaces(tmp_path / "root"), tmp_path / "served"
    workspace = store.new()
    (workspace.pictures / "1.png").write_bytes(bytes(3000))
    ticket = workspace.trash.put([workspace.pictures / "1.png"])
    (workspace.trash.folder / ticket).rename(workspace.trash.folder / f"1{ticket[19:]}")
    (workspace.pictures / "2.png").write_bytes(bytes(2000))
    for path in (store.cache / "class" / "0000.safetensors", served / "x" / "photo.png"):
        path.parent.mkdir(parents=True)
        path.write_bytes(bytes(500))
        (path.parent / "new").write_bytes(bytes(7000))
        os.utime(path, (1, 1))
    said = tidy(store, served)
    assert "1 visitors with 2 KB, class images 7 KB of 2.1 GB, copies for browsers 7 KB" in said
    assert not list(workspace.trash.folder.iterdir())
    assert [path.name for path in served.rglob("*.png")] == []
    assert workspace.pictures.joinpath("2.png").exists()
