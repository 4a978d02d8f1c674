"""The stack's link: made of the form as it stands, and opened by whoever follows it."""

from __future__ import annotations

from typing import Any

import gradio as gr

from personalization.errors import PersonalizationError

from . import html
from .adapter_rows import Row, check_for
from .draw_panel import DrawPanel
from .event_options import UNQUEUED
from .exchange import from_hub
from .messages import user_message
from .session import Values, Visit
from .stack_link import StackLink, link_to

# The server does not know by which address the visitor came.
TO_CLIPBOARD = """async (query) => {
    const address = location.origin + location.pathname + query;
    try { await navigator.clipboard.writeText(address); } catch { /* it is there to be marked */ }
    return address;
}"""


class StackSharing:
    """A button that copies a link to what is on the list and in the prompt."""

    def __init__(self, draw_panel: DrawPanel) -> None:
        self.draw_panel = draw_panel
        self.adapter_list, self.combining = draw_panel.adapter_list, draw_panel.combining
        with gr.Row(elem_classes="ask"):
            gr.HTML(html.LINK_HINT)
            self.copy = gr.Button(
                "Copy link", size="sm", scale=0, min_width=110, elem_id="stack-copy-link"
            )
        self.link = gr.Textbox(
            container=False,
            max_lines=2,
            buttons=["copy"],
            interactive=False,
            visible=False,
            elem_id="stack-link",
        )
        self.notes = gr.HTML(elem_id="stack-link-notes")

    def wire(self) -> None:
        """The address is told by the browser, which copies it."""
        panel, listed = self.draw_panel, self.adapter_list
        said = {*listed.inputs, panel.form.prompt, panel.form.seed, self.combining.combine}
        self.copy.click(self.say_link, said, [self.link, self.notes], **UNQUEUED).then(
            None, self.link, self.link, js=TO_CLIPBOARD
        )

    def say_link(self, values: Values) -> dict:
        """The link’s end; and what is not in it."""
        entries = {e.name: e for e in self.adapter_list.visit(values).workspace.library.list()}
        seed = values[self.draw_panel.form.seed]
        link, missing = link_to(
            self.adapter_list.rows_in(values),
            entries,
            values[self.draw_panel.form.prompt] or "",
            None if seed is None else int(seed),
            values[self.combining.combine],
        )
        return {
            self.link: gr.update(value=link.query(), visible=True),
            self.notes: html.warnings(html.not_in_link([html.called(each) for each in missing])),
        }

    def open(self, visit: Visit, link: StackLink) -> dict:
        """The list and the form as the link has them, as far as this base can take them."""
        rows: list[Row] = []
        errors: list[str] = []
        for name, weight in link.adapters:
            try:
                entry = (
                    from_hub(visit, name) if "/" in name else visit.workspace.library.entry(name)
                )
                check_for(visit.base, entry, weight)
                rows.append(Row(entry.name, weight))
            except PersonalizationError as error:
                errors.append(user_message(error))
        board: dict[Any, Any] = self.adapter_list.show(visit, rows, errors)
        board[self.combining.combine] |= {"value": link.combine}
        if link.prompt:
            board[self.draw_panel.form.prompt] = link.prompt
        if link.seed is not None:
            board |= {self.draw_panel.form.seed: link.seed, self.draw_panel.form.vary: False}
        return board
