"""Whatever a button of the page does, a program can have done."""

from __future__ import annotations

import gradio as gr
import pytest

BUTTONS = (gr.Button, gr.UploadButton)  # a download has the file that an endpoint gave already
# What fills or folds the form alone: a program says these things in its call.
FORM = "the form"
PLAY = "assets/recorded"  # what is played comes with the app

BY_PROGRAM = {
    "base-load": "list_bases",
    "photographs-go": "check_photos",
    "mask-take": FORM,
    "mask-drop": FORM,
    "scripts": "suggest_recipe",
    "save": "suggest_recipe",
    "load": FORM,
    "teach-word-button": "train_word",
    "teach-subject-button": "train_subject",
    "long-go": "train_subject",
    "long-384": FORM,
    "long-256": FORM,
    "first-try-go": "draw_stack",
    "first-try-train": "train_subject",
    "jobs-send": "send_job",
    "jobs-cancel": "cancel_job",
    "cancel": "stop_run",
    "up": "move_up_run",
    "continue": "continue_run",
    "keep": "continue_run",
    "watch": PLAY,
    "draw": "draw_stack",
    "send": "draw_stack",
    "publish": "publish_adapter",
    "Extract a LoRA": "extract_lora",
    "skip": "stop_run",
    "measure": "report",
    "evidence-make": "evidence_card",
    "spectrum-go": "teach_spectrum",
    "spectrum-stop": "stop_run",
    "take-out": FORM,
    "call": FORM,
    "stack-upload": "add_from_file",
    "hub-look": "add_from_hub",
    "hub-add": "add_from_hub",
    "stack-suggest": "compare_adapters",
    "take-make": "export_adapter",
    "take-save": "save_stack",
    "publish-look": "publish_adapter",
    "publish-go": "publish_adapter",
    "versions-look": "list_versions",
    "versions-draw": "compare_versions",
    "draw-button": "draw_stack",
    "compare-button": "sweep_stack",
    "sweep-button": "sweep_stack",
    "stack-long-go": "draw_stack",
    "stack-copy-link": "link_to_stack",
    "things-pack": "download_things",
    "Save": "rename_adapter",
    "Cancel": FORM,
    "forget-me": "forget_me",
}
# What a piece of HTML on the page holds as buttons, and what reads a dropped file.
BESIDE = {
    "undo_delete",
    "delete_things",
    "keep_preset",
    "restore_version",
    "judge_picture",
    "read_picture",
    "list_evidence",
}


@pytest.fixture(scope="module")
def demo():
    import app

    return app.demo


def name_of(button: gr.Button) -> str:
    """As the table has it: both teaching tabs' are called alike."""
    name = button.elem_id or next(iter(button.elem_classes), "") or str(button.value)
    return name.removeprefix("word-").removeprefix("subject-")


def test_each_button_of_the_page_has_its_endpoint(demo):
    endpoints = {event.api_name for event in demo.fns.values() if event.api_visibility == "public"}
    buttons = {name_of(b) for b in demo.blocks.values() if isinstance(b, BUTTONS)} - {"Run"}
    assert buttons == set(BY_PROGRAM)
    assert set(BY_PROGRAM.values()) - {FORM, PLAY} <= endpoints
    assert endpoints >= BESIDE
