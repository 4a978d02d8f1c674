"""What this machine can train, and how to have a Space of one's own."""

from __future__ import annotations

import gradio as gr
import pytest

from personalization.bases.catalog import CATALOG
from personalization.page import machine


def built() -> list[dict]:
    with gr.Blocks() as demo:
        machine.Machine()
    return demo.get_config_file()["components"]


def test_a_space_is_duplicated_by_a_button_and_told_what_it_forgets(monkeypatch):
    monkeypatch.setenv("SYSTEM", "spaces")
    monkeypatch.setenv("SPACE_ID", "someone/space")
    monkeypatch.delenv("PERSONALIZATION_HOME", raising=False)
    parts = built()
    (button,) = [part for part in parts if part["props"].get("elem_id") == "duplicate"]
    assert button["props"]["value"] == "Duplicate this Space"
    said = " ".join(str(part["props"].get("value")) for part in parts)
    assert "A free account’s runs on ZeroGPU" in said
    assert "Nothing outlasts a restart" in said
    monkeypatch.setenv("PERSONALIZATION_HOME", "/data/personalization")
    kept = " ".join(str(part["props"].get("value")) for part in built())
    assert "Nothing outlasts a restart" not in kept


def test_elsewhere_there_is_nothing_to_duplicate(monkeypatch):
    monkeypatch.delenv("SYSTEM", raising=False)
    assert "duplicate" not in {part["props"].get("elem_id") for part in built()}
    assert machine.forgetful() == []


@pytest.mark.slow
def test_the_table_has_a_time_or_a_reason_for_each_base():
    table = machine.table()
    rows = table.split("<tbody>")[1].split("</tr>")[:-1]
    assert len(rows) == len(CATALOG)
    for spec in CATALOG.values():
        (row,) = [row for row in rows if f">{spec.title}<" in row]
        assert ("about" in row) or ("GiB" in row) or ("after a few steps" in row)
