"""Pictures as components: side by side, or one to brush over, whose brushing is a mask."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from personalization.files import write_atomically
from personalization.workspaces.workspace import Workspace

from .messages import collected
from .uploads import shelf_of

COLOUR = "#6366f1"

# Gradio's editors begin with no tool in hand, so that a first stroke draws nothing. Of their tools
# the last two are the brush and the eraser; one that awaits a picture is left as it is.
BRUSH_IN_HAND = """<script>
(() => {
    const inHand = new WeakSet();
    const take = (bar) => {
        const tools = [...bar.querySelectorAll('.half-container:first-child > button')];
        const [brush, eraser] = tools.slice(-2);
        const awaits = tools.length > 2 && bar.parentElement.querySelector('.empty');
        // Not while it is folded away: with a tool in hand an editor draws itself all the time.
        if (!eraser || awaits || inHand.has(bar) || !bar.offsetParent) return;
        if ([brush, eraser].some((tool) => tool.classList.contains('highlight'))) inHand.add(bar);
        else brush.click();
    };
    let soon = 0;
    const look = () => {
        soon = 0;
        document.querySelectorAll('.toolbar-wrap').forEach(take);
    };
    const lookSoon = () => { soon ||= setTimeout(look, 100); };
    new MutationObserver(lookSoon).observe(document, { childList: true, subtree: true });
    document.addEventListener('click', () => setTimeout(lookSoon, 300));  // which may unfold one
})();
</script>"""


def canvas(label: str, *, height: int, elem_id: str, visible: bool = True) -> gr.ImageEditor:
    """An editor with one brush and nothing else."""
    return gr.ImageEditor(
        type="pil",
        label=label,
        visible=visible,
        height=height,
        layers=False,
        transforms=(),
        brush=gr.Brush(colors=[COLOUR + "cc"], color_mode="fixed", default_size=40),
        elem_id=elem_id,
    )


def painted(editor: dict[str, Any] | None) -> Image.Image | None:
    """What was brushed over, white on black."""
    layers = (editor or {}).get("layers")
    return (
        layers[0].getchannel("A").point(lambda alpha: 255 if alpha > 16 else 0) if layers else None
    )


def brushed(image: Image.Image, mask: Image.Image | None) -> dict[str, Any]:
    """The editor's value with that much brushed over: `painted` backwards."""
    layer = Image.new("RGBA", image.size, COLOUR)
    layer.putalpha(mask or Image.new("L", image.size))
    return {"background": image, "layers": [layer], "composite": None}


def keep(workspace: Workspace, drawn: Sequence[tuple[str, str]]) -> list[str]:
    """Keep drawn pictures, as files with their prompts, among the visitor's things.

    Returns a sentence where there is no room: what was drawn is shown all the same.
    """
    notes: list[str] = []
    now = f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}"
    with collected(notes):
        files = {Path(path): Path(path).read_bytes() for path, _ in drawn}
        workspace.make_room(sum(map(len, files.values())))
        for path, content in files.items():
            kept = write_atomically(workspace.pictures / f"{now}-{path.name}", content)
            shelf_of(workspace).tie(path, kept)
    return [f"Not kept among your things. {note}" for note in notes]


def gallery(elem_id: str, *, visible: bool = True) -> gr.Gallery:
    """Pictures side by side; their captions are for the enlarged view."""
    return gr.Gallery(
        show_label=False,
        columns=4,
        height="auto",
        object_fit="contain",
        buttons=["download", "fullscreen"],
        interactive=False,
        visible=visible,
        elem_id=elem_id,
        elem_classes="pictures",
    )
