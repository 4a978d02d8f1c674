"""A run on Hugging Face’s machines, for the visitor’s own credit: price, progress, back again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

import gradio as gr

from personalization.errors import HubError, PersonalizationError
from personalization.training.run import Run
from personalization.workspaces.workspace import Workspace

from . import html
from .event_options import QUEUED, UNQUEUED
from .exchange import BUSY, CAN_SIGN_IN
from .messages import user_message
from .session import Values, Visit, page_workspace

if TYPE_CHECKING:
    from personalization.sharing.jobs import Hardware, Progress, Sent

    from .run_panel import RunPanel
EVERY = 10.0  # seconds between two looks at a job
MINUTES = 60
WHAT = (
    "The same run on a machine that Hugging Face rents by the minute, for your account’s credit. "
    "Your photos go into a private repository of yours, which the job deletes before its first "
    "step; what it learned comes back into this page, and nothing of it stays on the Hub."
)
NOT_HERE = (
    "It wants a sign-in with Hugging Face, which an app on a Space has. Here, "
    "<code>python -m personalization train</code> does the same on any machine of yours."
)
Go = Callable[[Workspace, Run], dict]
Begin = Callable[[Values, Go], dict]


class JobsPanel:
    """Under the button that teaches here."""

    def __init__(self, purpose: str, visitor: gr.BrowserState):
        self.visitor = visitor
        self.panel: RunPanel  # where what comes back is shown: built after this one
        self.away = gr.State("")  # the run that is looked after
        self.choices = gr.State([])  # machines as they were listed
        with gr.Accordion(
            "Train on Hugging Face Jobs", open=False, elem_id=f"{purpose}-jobs"
        ) as self.fold:
            gr.HTML(html.hint(WHAT))
            if CAN_SIGN_IN:
                gr.LoginButton(size="sm", min_width=220, elem_id=f"{purpose}-jobs-sign-in")
            else:
                gr.HTML(html.hint(NOT_HERE))
            with gr.Row():
                self.machine = gr.Dropdown(
                    [], label="Machine", scale=2, min_width=320, elem_id=f"{purpose}-jobs-machine"
                )
                self.minutes = gr.Number(
                    MINUTES, label="Switched off after (minutes)", minimum=1, maximum=360,
                    precision=0, min_width=140, elem_id=f"{purpose}-jobs-minutes",
                )  # fmt: skip
            self.bound = gr.HTML(elem_id=f"{purpose}-jobs-bound")
            with gr.Row():
                self.send = gr.Button("Send it", min_width=110, elem_id=f"{purpose}-jobs-send")
                self.end = gr.Button(
                    "Cancel the job", visible=False, min_width=110, elem_id=f"{purpose}-jobs-cancel"
                )
            self.said = gr.HTML(elem_id=f"{purpose}-jobs-said")
        self.tick = gr.Timer(EVERY, active=False)
        self.parts: list[Any] = [self.away, self.said, self.fold, self.end, self.send, self.tick]

    def wire(self, entered: set[Any], begin: Begin, notes: list[Any]) -> None:
        """`begin` checks what was entered and makes the run."""
        panel = self.panel
        listed = [self.machine, self.choices, self.said]
        self.fold.expand(self.show_machines, None, listed, **QUEUED)
        order = {self.machine, self.minutes, self.choices}
        gr.on([self.machine.change, self.minutes.change], self.price, order, self.bound, **UNQUEUED)
        outputs = [*notes, *self.parts, *panel.parts]

        def send(values: Values, token: gr.OAuthToken | None) -> dict:
            return begin(values, partial(self.go, values, token.token if token else ""))

        self.send.click(send, {*entered, *order}, list(dict.fromkeys(outputs)), **BUSY)
        away = [self.visitor, self.away]
        shown = list(dict.fromkeys([*self.parts, *panel.parts]))
        self.tick.tick(self.look, away, shown, **UNQUEUED)
        self.end.click(self.cancel, away, shown, **BUSY)

    def show_machines(self, token: gr.OAuthToken | None) -> dict:
        """The machines with their prices, once somebody looks."""
        from personalization.sharing import jobs

        if not CAN_SIGN_IN:
            return {self.machine: gr.skip()}
        try:
            found = jobs.hardware(token.token if token else None)
        except HubError as error:
            return {self.said: html.problems([user_message(error)])}
        return {
            self.machine: gr.update(
                choices=[(titled(each), each.name) for each in found],
                value=found[0].name if found else None,
            ),
            self.choices: found,
        }

    def price(self, values: Values) -> str:
        """The most that it can cost."""
        from personalization.sharing.jobs import Order

        machine = self.chosen(values)
        if machine is None or not values[self.minutes]:
            return ""
        most = Order(machine, int(values[self.minutes])).most
        return html.hint(
            f"At most ${most:.2f}: it is switched off after {int(values[self.minutes])} minutes, "
            "and ends before that when it has learned."
        )

    def chosen(self, values: Values) -> Hardware | None:
        """The machine of the dropdown."""
        name = values[self.machine]
        return next((each for each in values[self.choices] if each.name == name), None)

    def go(self, values: Values, token: str, workspace: Workspace, run: Run) -> dict:
        """Send a run away that has been checked and made. Raises `HubError`; it is kept here."""
        from personalization.sharing import jobs

        machine = self.chosen(values)
        run.stop()  # it is not to be learned here meanwhile
        if machine is None:
            raise HubError("Choose a machine first. The run is kept here.")
        sent = jobs.send(run, jobs.Order(machine, int(values[self.minutes] or 0)), token)
        return {
            **self.panel.find(Visit(workspace, run.base), run),
            **self.waiting(run, sent, jobs.Progress("waiting")),
        }

    def waiting(self, run: Run, sent: Sent, now: Progress) -> dict:
        """How far it is, and how to end it."""
        return {
            self.away: run.folder.name,
            self.said: told(sent, now),
            self.fold: gr.update(open=True),
            self.end: gr.update(visible=True),
            self.send: gr.update(interactive=False),
            self.tick: gr.Timer(active=True),
        }

    def over(self, said: str) -> dict:
        """Nothing is away any more."""
        return {
            self.away: "",
            self.said: said,
            self.end: gr.update(visible=False),
            self.send: gr.update(interactive=True),
            self.tick: gr.Timer(active=False),
        }

    def find(self, workspace: Workspace) -> dict:
        """The run that is away, for a page that comes back."""
        from personalization.sharing.jobs import Progress, Sent

        for run in workspace.runs():
            if sent := Sent.of(run):
                return self.waiting(run, sent, Progress("waiting"))
        return self.over("")

    def look(self, visitor: str, away: str, token: gr.OAuthToken | None) -> dict:
        """Ask the Hub; take what is done, and delete what failed."""
        from personalization.sharing import jobs

        if not away:
            return self.over("")
        try:
            workspace = page_workspace(visitor)
            run = workspace.run(away)
            sent = jobs.Sent.of(run)
            if sent is None:
                return self.over("")
            if token is None:
                raise HubError("You are signed out: sign in again to see how far your job is.")
            now = look_after(workspace, run, sent, token.token)
            if now.under_way:
                return self.waiting(run, sent, now)
            if now.stage == "done":
                return {
                    **self.over(html.hint("It is back, and in your library.")),
                    **self.panel.begin(workspace, run, "show"),
                }
            why = f" ({escape(now.message)})" if now.message else ""
            said = f"The job ended before it had learned{why}. The run is kept here."
            return {
                **self.over(html.problems([said])),
                **self.panel.find(Visit(workspace, run.base), run),
            }
        except PersonalizationError as error:
            return {self.said: html.problems([user_message(error)])}

    def cancel(self, visitor: str, away: str, token: gr.OAuthToken | None) -> dict:
        """End the job, and delete what is on the Hub of it."""
        from personalization.sharing import jobs

        try:
            workspace = page_workspace(visitor)
            run = workspace.run(away)
            if (sent := jobs.Sent.of(run)) and token:
                jobs.cancel(sent, run, token.token)
            elif sent:
                raise HubError("You are signed out: sign in again to cancel your job.")
        except PersonalizationError as error:
            return {self.said: html.problems([user_message(error)])}
        return {
            **self.over(html.hint("The job is cancelled. The run is kept here.")),
            **self.panel.find(Visit(workspace, run.base), run),
        }


def look_after(workspace: Workspace, run: Run, sent: Sent, token: str) -> Progress:
    """How far a job is; what is done is taken into the library, what failed is deleted.

    Raises `HubError`, `RunError`.
    """
    from personalization.sharing import jobs

    now = jobs.look(sent, token)
    if now.stage == "done":
        jobs.fetch(sent, run, token)
        run.clear_stop()
        workspace.library.add(run.adapter_path, run.concept.name)
    elif not now.under_way:
        jobs.discard(sent, run, token)
    return now


def titled(machine: Hardware) -> str:
    """A machine with its price, which a narrow list must not cut off, and its memory."""
    memory = f", {machine.memory}" if machine.memory else ""
    return f"${machine.dollars_an_hour:.2f} an hour: {machine.title}{memory}"


def told(sent: Sent, now: Progress) -> str:
    """A line, a bar, and the job's own page."""
    doing = {
        "waiting": "Waiting for the machine…",
        "running": f"Step {now.step} of {now.steps}."
        if now.steps
        else escape(now.doing or "Setting up…"),
    }.get(now.stage, "")
    share = 100 * now.step / now.steps if now.steps else 100
    return (
        '<div class="run"><div class="run-line"><span>It learns on Hugging Face Jobs</span></div>'
        f'<div class="bar{"" if now.steps else " busy"}"><i style="width:{share:.1f}%"></i></div>'
        f'<div class="run-detail">{doing} At most ${sent.most:.2f}. '
        f'<a href="{escape(sent.address)}" target="_blank" rel="noopener">The job’s page</a>. '
        "You may close this page: it is fetched when you are back.</div></div>"
    )
