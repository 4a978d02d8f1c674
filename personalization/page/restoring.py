"""A picture dropped back: the list and the form as they were when it was drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from personalization.sampling.picture_record import PictureRecord, read_record
from personalization.workspaces.workspace import Workspace

from . import html
from .draw_panel import DrawPanel
from .event_options import UNQUEUED
from .loaded import spec_of
from .records import rows_of
from .session import Values


class Restoring:
    """Where a picture is dropped; what its record says goes into the panel and the list."""

    def __init__(self, panel: DrawPanel) -> None:
        self.panel = panel
        self.adapter_list, self.combining = panel.adapter_list, panel.combining
        gr.HTML(html.RESTORE_HINT)
        self.file = gr.File(
            show_label=False, height=60, elem_id="stack-restore", elem_classes="drop"
        )

    def wire(self, board: list[Any], then: Callable[[Any], None]) -> None:
        """`board` is the list's, which the record restores too."""
        listed, panel = self.adapter_list, self.panel
        dropped: set[Any] = {listed.visitor, listed.base, self.file}
        form = [*panel.form.inputs, *panel.guides.inputs, *self.combining.how]
        back = dict.fromkeys([*board, *form, panel.notes, self.file])
        then(self.file.upload(self.take_record, dropped, list(back), **UNQUEUED))

    def take_record(self, values: Values) -> dict:
        """The form as it was when this picture was drawn; the base stays the chosen one."""
        panel = self.panel
        file = values[self.file]
        record = read_record(Path(file)) if file else None
        if record is None:
            return {panel.notes: html.problems([html.NO_RECORD]), self.file: None}
        visit = self.adapter_list.visit(values)
        spec = spec_of(visit.base)
        warnings = html.other_base(record.base, spec)
        board = self.adapter_list.show(visit, rows_of(record))
        board[self.combining.combine] |= {"value": record.combine}
        return {
            **board,
            self.combining.density: record.density,
            self.combining.rank: record.rank,
            **panel.form.fill(record, spec),
            **panel.form.fill_start(record, visit.workspace, warnings),
            **panel.guides.restore(record, spec, visit.workspace, warnings),
            **self._canvas(board, record, visit.workspace, warnings),
            panel.notes: html.warnings(warnings),
            self.file: None,
        }

    def _canvas(
        self, board: dict, record: PictureRecord, workspace: Workspace, warnings: list[str]
    ) -> dict:
        """The brushed places, shown where the record has any."""
        restored = self.panel.places.restore(record, workspace, warnings)
        return {part: board[part] | update for part, update in restored.items()}
