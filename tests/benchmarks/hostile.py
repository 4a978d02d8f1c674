"""Everything that comes in from outside, sent as somebody would who means harm.

    python -m tests.benchmarks.hostile [--json FILE] [--without-browser]

The app runs as a process of its own. It is sent adapters, photos, records in pictures, recipes,
masks, each field of each endpoint and each event of the page with what does not belong there, and
addresses of files that are nobody's business. Counted: what was answered by a sentence, or done, or
refused by the server; what was answered in Python's words, broke off, or took over five seconds;
what gave away a secret that lies in another's workspace, in the environment and beside the app;
what was executed, by the app or, where the page shows it all in Chromium, in the page.
"""

from __future__ import annotations

import argparse
import itertools
import json
import secrets
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from personalization.data.photos import open_photos
from personalization.files import write_atomically
from personalization.workspaces.workspace import Workspace, Workspaces
from tests.support import hostile
from tests.support.results import conclude
from tests.support.server import App, running

HANG = 5.0  # seconds
# The recorded run is shown as it went, in ten seconds: its answer comes bit by bit, and ends then.
SHOWN_SLOWLY = ("replay", "replay_1")


@dataclass
class Found:
    """What came of the inputs, by kind."""

    sent: Counter[str] = field(default_factory=Counter)
    how: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    unforeseen: list[str] = field(default_factory=list)  # what was sent where nobody foresaw it
    slowest: float = 0.0


class Sender:
    """Sends to a running app, and looks at each answer."""

    def __init__(self, app: App, secret: str) -> None:
        self.app, self.secret, self.found = app, secret, Found()
        self.client = httpx.Client(base_url=f"{app.url}/gradio_api", timeout=60)
        config = httpx.get(f"{app.url}/config", timeout=60).json()
        self.events = [each for each in config["dependencies"] if each["backend_fn"]]
        self.parts = {each["id"]: each for each in config["components"]}

    def event(self, name: str) -> dict[str, Any]:
        """The event of that name."""
        return next(each for each in self.events if each["api_name"] == name)

    def fields(self, event: dict[str, Any]) -> list[tuple[str, Any]]:
        """Its fields, by name, and what each holds at first."""
        props = [self.parts[number]["props"] for number in event["inputs"]]
        return [(str(p.get("label")), p.get("value", p.get("default_value"))) for p in props]

    def upload(self, name: str, content: bytes) -> dict[str, Any]:
        """A file as an event names it; what the server refuses is named all the same."""
        answer = self.client.post("/upload", files={"files": (name, content)})
        self.look("an upload", name, answer.text, answer.status_code)
        path = answer.json()[0] if answer.status_code == 200 else f"/nowhere/{name}"
        return {"path": path, "orig_name": name, "meta": {"_type": "gradio.FileData"}}

    def send(self, kind: str, event: dict[str, Any], data: Any) -> Any:
        """One request; returns what came back."""
        started = time.monotonic()
        what = f"{event['api_name']} {json.dumps(data)[:300]}"
        said: Any = None
        try:
            said, status = self.queued(event, data) if event["queue"] else self.direct(event, data)
            self.look(kind, what, json.dumps(said), status)
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            self.found.faults.append(f"broke off ({type(error).__name__}): {what}")
            if isinstance(error, httpx.ConnectError):
                self.find_dead()
        self.found.sent[kind] += 1
        took = time.monotonic() - started
        if event["api_name"] in SHOWN_SLOWLY:
            return said
        self.found.slowest = max(self.found.slowest, took)
        if took > HANG:
            self.found.faults.append(f"{took:.0f} s: {what}")
        return said

    def find_dead(self) -> None:
        """Raise where the app has ended, with the last that it has said."""
        process = self.app.process
        with suppress(subprocess.TimeoutExpired):
            code = process.wait(5) if process else None
            said = self.app.log.read_text()[-3000:]
            raise SystemExit(f"the app ended ({code}): {self.found.faults[-1]}\n{said}")

    def direct(self, event: dict[str, Any], data: Any) -> tuple[Any, int]:
        """What does not wait in the queue."""
        body = {"data": data, "fn_index": event["id"], "session_hash": secrets.token_hex(6)}
        body["event_data"] = {"key": "x", "index": 0, "value": "x"}
        answer = self.client.post("/run/predict", json=body)
        return answer.json(), answer.status_code

    def queued(self, event: dict[str, Any], data: Any) -> tuple[Any, int]:
        """What does."""
        session = secrets.token_hex(6)
        body = {"data": data, "fn_index": event["id"], "session_hash": session}
        joined = self.client.post("/queue/join", json=body)
        if joined.status_code != 200:
            return joined.json(), joined.status_code
        with self.client.stream("GET", "/queue/data", params={"session_hash": session}) as lines:
            for line in lines.iter_lines():
                if line.startswith("data:") and "process_completed" in line:
                    return json.loads(line[5:])["output"], 200
        return {"error": "ended without an answer"}, 500

    def get(self, kind: str, address: str) -> None:
        """A file that is asked for."""
        self.found.sent[kind] += 1
        try:
            answer = self.client.get(address, follow_redirects=False)
            self.look(kind, address, answer.text, answer.status_code)
            if "root:" in answer.text or "[extensions]" in answer.text:
                self.found.faults.append(f"read: {address}")
        except httpx.InvalidURL:  # which no browser asks for either
            self.found.how["refused by the server"] += 1
        except httpx.HTTPError as error:
            self.found.faults.append(f"broke off ({type(error).__name__}): {address}")

    def look(self, kind: str, what: str, text: str, status: int) -> None:
        """Sort an answer."""
        if self.secret in text:
            self.found.faults.append(f"gave a secret away: {what}")
        if hostile.is_pythons(text):
            self.found.how["in Python's words"] += 1
            self.found.faults.append(f"Python's words: {what}: {text[:300]}")
        elif "did not foresee" in text:
            self.found.how["by a sentence, unforeseen"] += 1
            self.found.unforeseen.append(what)
        elif status >= 500 and '"error"' not in text:
            self.found.faults.append(f"{status}: {what}: {text[:200]}")
        elif status >= 400 or '"error": null' in text.replace('":null', '": null'):
            self.found.how["refused by the server"] += 1
        else:
            self.found.how["by a sentence, or done"] += 1


def files(sender: Sender, visitor: str, mark: str) -> Iterator[str]:
    """Adapters, photos, records and recipes, each given where the page takes it."""
    mine = {"visitor": visitor}
    for name, content in hostile.adapters(mark):
        give(sender, "an adapter", "take_file", sender.upload(name, content), mine)
    yield "adapters"
    for name, content in hostile.photos():
        give(sender, "a photo", "add", [sender.upload(name, content)], mine)
    yield "photos"
    for name, content in hostile.records():
        give(sender, "a record", "take_record", sender.upload(name, content), mine)
    yield "records"
    for name, content in hostile.recipes():
        give(sender, "a recipe", "read_file_1", sender.upload(name, content), mine)
    yield "recipes"


def give(sender: Sender, kind: str, name: str, value: Any, mine: dict[str, str]) -> None:
    """An event with the file in its place, and the visitor in theirs."""
    event = sender.event(name)
    data = []
    for number in event["inputs"]:
        part = sender.parts[number]
        props = part["props"]
        if props.get("storage_key") == "personalization-visitor":
            data.append(mine["visitor"])
        elif part["type"] in ("file", "uploadbutton"):
            data.append(value)
        else:
            data.append(props.get("value", props.get("default_value")))
    sender.send(kind, event, data)


def masks(sender: Sender, visitor: str, key: str) -> None:
    """What is brushed over a photo, from files of everywhere."""
    event = sender.event("brush")
    good = sender.upload("layer.png", hostile.png())
    outside = [{**good, "path": path} for path in hostile.PATHS]
    pictures = [sender.upload(name, content) for name, content in hostile.photos()][:14]
    for number, layer in enumerate((*outside, *pictures, *hostile.WRONG)):
        behind = {"background": layer, "layers": [good], "composite": layer}
        before = {"background": good, "layers": [layer], "composite": good}
        for editor in (behind if number % 2 else before,):
            data: list[Any] = []
            for number in event["inputs"]:
                part = sender.parts[number]
                kind, props = part["type"], part["props"]
                if props.get("storage_key") == "personalization-visitor":
                    data.append(visitor)
                elif kind == "imageeditor":
                    data.append(editor)
                elif kind == "dropdown":
                    data.append(key)
                else:
                    data.append([key] if "photos" in str(props.get("storage_key")) else "")
            sender.send("a mask", event, data)


def endpoints(sender: Sender, session: str) -> None:
    """Each field of each endpoint with three of what is wrong, the others as they should be."""
    values = itertools.cycle((*hostile.WRONG[:13], *hostile.TEXTS))
    fits = {"session": session, "prompt": "a dog", "adapters": [], "photos": [], "kind": "photo"}
    for event in sender.events:
        if event["api_visibility"] != "public":
            continue
        fields = sender.fields(event)
        for number, (name, _) in enumerate(fields):
            for value in itertools.islice(values, 3):
                data = [fits.get(field, default) for field, default in fields]
                data[number] = value
                if event["api_name"] in ("draw_stack", "sweep_stack") and name != "adapters":
                    data[0] = [{"name": value}]  # else some would be drawn
                sender.send("a field", event, data)
        for data in ([], [None] * 40):
            sender.send("a field", event, data)


def events(sender: Sender, visitor: str) -> None:
    """Each event of the page, with two of what is wrong in every place, and with an id there."""
    values = itertools.cycle((*hostile.WRONG, *hostile.TEXTS[:9]))
    for event in sender.events:
        if event["api_visibility"] == "public" or event["api_name"].startswith("forget"):
            continue
        many = len(event["inputs"])
        for value in (*itertools.islice(values, 2), visitor):
            sender.send("an event", event, [value] * many)


def addresses(sender: Sender, other: Workspace) -> None:
    """Files of others and of the machine."""
    theirs = [str(path) for path in other.folder.rglob("*") if path.is_file()]
    for path in (
        *theirs,
        *hostile.PATHS,
        "app.py",
        "../app.py",
        str(other.folder),
        "/etc/hostname",
    ):
        for prefix in ("/file=", "/file/", "/proxy=", "/stream/"):
            sender.get("an address", f"{prefix}{path}".replace("\0", "%00"))
    for path in (
        "http://127.0.0.1:1/",
        "http://169.254.169.254/latest",
        "http://[::1]/",
        "file:///etc/passwd",
    ):
        for prefix in ("/file=", "/proxy="):
            sender.get("an address", f"{prefix}{path}")


def shown(app: App, store: Workspaces, mine: Workspace) -> str:
    """What the page with all of it in a browser does; "" where nothing was executed."""
    others = set(store.root.iterdir())
    from playwright.sync_api import Dialog, expect

    from tests.support.browser import LONG, chromium

    with chromium() as browser:
        page = browser.new_page()
        alerts: list[str] = []

        def dismiss(dialog: Dialog) -> None:
            alerts.append(dialog.message)
            dialog.dismiss()

        page.on("dialog", dismiss)
        page.goto(app.url)
        expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
        (theirs,) = set(store.root.iterdir()) - others
        shutil.copytree(mine.folder, theirs, dirs_exist_ok=True)
        page.reload()
        expect(page.locator("body.arrived")).to_be_visible(timeout=LONG)
        for name in ("Teach a subject", "Stack adapters", "Teach a word"):
            page.get_by_role("tab", name=name).click()
        page.locator("#things").get_by_text("Your things").first.click()
        expect(page.locator("#things-list li").first).to_be_visible(timeout=LONG)
        page.wait_for_function("[...document.images].every((each) => each.complete)")
        ran = page.evaluate("window.hostile")
        return f"ran: {ran}, {alerts}" if ran is not None or alerts else ""


def measure(*, browser: bool) -> dict[str, Any]:
    """All of it, on an app of its own."""
    secret = secrets.token_hex(16)
    with tempfile.TemporaryDirectory() as folder:
        home, mark = Path(folder), str(Path(folder) / "executed")
        write_atomically(home / "secret.txt", secret)
        store = Workspaces(home / "workspaces")
        other, mine = store.new(), store.new()
        write_atomically(other.pictures / "a.png", hostile.png(Comment=secret))
        write_atomically(other.folder / "presets" / "theirs.json", json.dumps({"title": secret}))
        write_atomically(mine.folder / "photos" / "seen.png", hostile.png())
        (key,) = mine.save_photos(open_photos([mine.folder / "photos" / "seen.png"])[0])
        with running(home, SECRET=secret) as app:
            sender = Sender(app, secret)
            for done in files(sender, mine.id, mark):
                print(done, dict(sender.found.sent), flush=True)
            masks(sender, mine.id, key)
            addresses(sender, other)
            endpoints(sender, mine.id)
            print("endpoints", dict(sender.found.sent), flush=True)
            events(sender, mine.id)
            print("events", dict(sender.found.sent), *sender.found.faults, sep="\n", flush=True)
            memory = app.peak_memory()
            ran = shown(app, store, mine) if browser else None
            alive = httpx.get(app.url, timeout=30).status_code == 200
            log = app.log.read_text()
        found = sender.found
        if Path(mark).exists():
            found.faults.append("a file was executed")
        for line in log.splitlines():
            if any(key in line for key in (secret, mine.id, other.id)):
                found.faults.append(f"in the log: {line[:300]}".replace(secret, "SECRET"))
        if not alive:
            found.faults.append("the app answers no more")
        if ran:
            found.faults.append(f"in the page: {ran}")
    return {
        "sent": dict(found.sent),
        "inputs": sum(found.sent.values()),
        "answered": dict(found.how),
        "slowest answer, seconds": round(found.slowest, 2),
        "memory at most, MB": memory // 2**20,
        "executed in the page": ran if browser else "not looked at",
        "unforeseen": [each.replace(folder, "HOME") for each in found.unforeseen],
        "faults": [each.replace(folder, "HOME") for each in found.faults],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--without-browser", action="store_true")
    options = parser.parse_args()
    result = measure(browser=not options.without_browser)
    conclude(result, options.json, result["faults"])


if __name__ == "__main__":
    main()
