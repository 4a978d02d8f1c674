"""Under a finished run: its pictures, a prompt to try, the file, the report, the whole spectrum."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import gradio as gr

from personalization.errors import PersonalizationError
from personalization.files import size_words
from personalization.sampling.settings import Settings
from personalization.training.run import Run

from . import html
from .event_options import ON_GPU
from .extract import Extract
from .messages import user_message
from .pictures import gallery
from .recorded import told
from .recorded import verdict as recorded_verdict
from .report import ReportPanel
from .runs import own_stack, showcase
from .session import Visit, page_workspace
from .spectrum_panel import SpectrumPanel
from .stacks import draw_with
from .uploads import publish_file, publish_pictures


class ResultPanel:
    """What came of a run, and what to do with it; hidden until there is something."""

    def __init__(
        self,
        prefix: str,
        visitor: gr.BrowserState,
        current: gr.State,
        build_strengths: Callable[[], None],
    ) -> None:
        """`build_strengths` makes what a recorded run has where one's own has its pictures."""
        self.visitor, self.current = visitor, current
        with gr.Column(visible=False, elem_id=f"{prefix}-result") as self.column:
            self.verdict = gr.HTML(elem_id=f"{prefix}-verdict")
            self.gallery = gallery(f"{prefix}-gallery")
            build_strengths()
            with gr.Row(elem_classes="ask") as self.ask:
                self.prompt = gr.Textbox(
                    placeholder="Try it: a prompt with the word in it",
                    container=False,
                    max_lines=2,
                    scale=5,
                    min_width=180,
                    elem_id=f"{prefix}-prompt",
                )
                self.draw = gr.Button("Draw", scale=1, min_width=90, elem_id=f"{prefix}-draw")
            self.draw_notes = gr.HTML(elem_id=f"{prefix}-draw-notes")
            with gr.Row() as self.take:
                self.download = gr.DownloadButton(
                    scale=5, min_width=190, elem_id=f"{prefix}-download"
                )
                self.send = gr.Button(
                    "Use in a stack", scale=4, min_width=150, elem_id=f"{prefix}-send"
                )
                self.publish = gr.Button(
                    "Publish", scale=3, min_width=110, elem_id=f"{prefix}-publish"
                )
            self.extract = Extract(prefix, visitor, current)
            self.report = ReportPanel(prefix, visitor, current, self.verdict)
            self.spectrum = SpectrumPanel(prefix, visitor, current)
        self.parts = [
            *(self.column, self.gallery, self.prompt, self.ask, self.take, self.download),
            *(self.draw_notes, *self.report.parts, *self.extract.parts, *self.spectrum.parts),
        ]
        gr.on(
            [self.draw.click, self.prompt.submit],
            self.try_prompt,
            [visitor, current, self.prompt, self.gallery],
            [self.gallery, self.draw_notes],
            api_visibility="private",
            **ON_GPU,
        )

    def there(self, *, done: bool) -> dict:
        """Whether there is a result; of one's own run all of it."""
        own = dict.fromkeys([self.gallery, self.ask, self.take], gr.update(visible=True))
        return {self.column: gr.update(visible=done), **own}

    def show(self, visit: Visit, run: Run) -> dict:
        """The pictures, the file, and the report as far as it is."""
        size = run.adapter_path.stat().st_size
        paths = sorted((run.folder / "pictures").glob("*.png"))
        pictures = [
            (publish_file(visit.workspace, p), said)
            for p, said in zip(paths, showcase(run), strict=False)
        ]
        name = run.folder.name.split("-", 3)[-1] + ".safetensors"
        return {
            **self.extract.show(run),
            self.gallery: gr.update(value=pictures, selected_index=None, visible=True),
            self.prompt: showcase(run)[0] + ", on the beach",
            self.download: gr.update(
                value=publish_file(visit.workspace, run.adapter_path, name),
                label=f"Download ({size_words(size)})",
            ),
            self.draw_notes: "",
            **self.report.show(visit, run),
            **self.spectrum.show(visit, run),
        }

    def show_recorded(self, run: Run, *, whole: bool) -> dict:
        """Of a run that was made elsewhere: nothing is drawn, measured or taken here."""
        own = (self.gallery, self.ask, self.take, self.extract.column)
        return {
            **dict.fromkeys(own, gr.update(visible=False)),
            self.verdict: recorded_verdict(run),
            **self.report.show_card(told()[2] if whole else ""),
            **self.spectrum.hide(),
        }

    def try_prompt(
        self, visitor: str, current: str, prompt: str, shown: list[tuple[str, str]] | None
    ) -> dict:
        """One more picture with what was just learned, in front of the others."""
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(current)
            settings = Settings(prompt, seed=secrets.randbelow(2**32))
            drawn = draw_with(run.base, own_stack(run), [settings])
            pictures = publish_pictures(workspace, drawn)
        except (PersonalizationError, gr.Error) as error:
            return {self.draw_notes: html.problems([user_message(error)])}
        notes = html.warnings(html.uncalled(prompt, [html.trigger(run)]))
        return {self.gallery: pictures + (shown or []), self.draw_notes: notes}
