"""Under a full fine-tune's result: the LoRA that can be made of it, and what that loses."""

from __future__ import annotations

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.files import size_words
from personalization.training.run import Run

from . import html
from .event_options import ON_GPU
from .gpu import gpu_extract
from .messages import user_message
from .session import page_workspace
from .uploads import publish_file


class Extract:
    """A rank, a button, and what came of it."""

    def __init__(self, prefix: str, visitor: gr.BrowserState, current: gr.State):
        with gr.Column(visible=False, elem_id=f"{prefix}-extract") as self.column:
            gr.HTML(html.EXTRACT)
            with gr.Row(elem_classes="ask"):
                self.rank = gr.Slider(1, 128, value=16, step=1, label="Rank", scale=3)
                self.button = gr.Button("Extract a LoRA", scale=1, min_width=140)
            self.said = gr.HTML(elem_id=f"{prefix}-extracted")
            self.download = gr.DownloadButton(visible=False, elem_id=f"{prefix}-extracted-file")
        self.parts = [self.column, self.said, self.download]
        self.done = self.button.click(
            self.extract,
            [visitor, current, self.rank],
            self.parts,
            api_visibility="private",
            **ON_GPU,
        )

    def show(self, run: Run) -> dict:
        """For a run that has ended: here, where there is something to extract."""
        return {
            self.column: gr.update(visible=run.recipe.method_name == "full"),
            self.said: "",
            self.download: gr.update(visible=False),
        }

    def extract(self, visitor: str, current: str, rank: float) -> dict:
        """The LoRA into the library, and to download."""

        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            made = gpu_extract(run.base, run.adapter_path, int(rank))
            entry = workspace.library.add(made.adapter, made.adapter.description.title)
        except (PersonalizationError, gr.Error) as error:
            return {self.said: html.problems([user_message(error)])}
        label = f"Download the LoRA ({size_words(entry.size)})"
        file = publish_file(workspace, entry.path)
        return {
            self.said: html.extracted(made),
            self.download: gr.update(value=file, label=label, visible=True),
        }
