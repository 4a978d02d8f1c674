"""docs/API.md, written from the endpoints themselves: ``python -m tests.api_docs``.

Names, types and defaults are those that the app tells its clients; what they mean is in the
functions' docstrings, which MCP's tools and a Space's agents.md show as well.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from typing import Any

from tests.support.server import ROOT

PATH = ROOT / "docs" / "API.md"
HEAD = """# By program

Written by `python -m tests.api_docs` from the app's endpoints; a test holds it to them. Each is
called with [gradio_client](https://www.gradio.app/docs/python-client) or plain HTTP
(`/gradio_api/call/NAME`), and is a tool of the same name over MCP at `/gradio_api/mcp/`. What
trains streams, as does `report`: `app.submit(...)` yields the status as it changes, and
`app.predict(...)` waits for the end. On a Space the Hub
[serves](https://huggingface.co/changelog/spaces-agents-md) a description of the endpoints to coding
agents at `/agents.md`; the app has nothing to do for that.

What is wrong comes back as an error of one sentence that names the field and the remedy.
"""


@dataclass(frozen=True)
class Doc:
    """A docstring's parts."""

    summary: str
    arguments: dict[str, str]
    returns: str

    @classmethod
    def of(cls, function: Any) -> Doc:
        text = inspect.getdoc(inspect.unwrap(function)) or ""
        summary, _, rest = text.partition("\nArgs:\n")
        if not rest:
            summary, _, returns = text.partition("\nReturns:\n")
        else:
            rest, _, returns = rest.partition("\nReturns:\n")
        arguments = {
            name: joined(said)
            for name, said in re.findall(
                r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", rest, re.DOTALL | re.MULTILINE
            )
        }
        return cls(paragraphs(summary), arguments, joined(returns))


def joined(text: str) -> str:
    return " ".join(text.split())


def paragraphs(text: str) -> str:
    return "\n\n".join(joined(part) for part in text.split("\n\n") if part.strip())


def endpoint(name: str, info: dict[str, Any], doc: Doc) -> str:
    """One endpoint, with a table of what it takes."""
    lines = [f"## {name.removeprefix('/')}", "", doc.summary, ""]
    taken = info["parameters"]
    if taken:
        lines += ["| | type | default | |", "|---|---|---|---|"]
    for each in taken:
        field = each["parameter_name"]
        default = f"`{each['parameter_default']!r}`" if each["parameter_has_default"] else ""
        kind = re.sub(r" \(.*\)|dict\(.*\)", lambda m: "dict" * (m[0][0] == "d"), kind_of(each))
        said = doc.arguments.get(field, "")
        lines.append(f"| `{field}` | {cell(kind)} | {default} | {cell(said)} |")
    if doc.returns:
        lines += ["", f"**Gives** {doc.returns[0].lower()}{doc.returns[1:]}"]
    return "\n".join(lines).replace("\n\n\n", "\n\n")


def kind_of(parameter: dict[str, Any]) -> str:
    kind = str(parameter["python_type"]["type"])
    return "object" if len(kind) > 60 and not kind.startswith("list") else kind


def cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def written() -> str:
    """The document as it should be."""
    from app import demo

    functions = {f"/{fn.api_name}": fn.fn for fn in demo.fns.values() if fn.api_name}
    endpoints = demo.get_api_info()["named_endpoints"]
    parts = [endpoint(name, info, Doc.of(functions[name])) for name, info in endpoints.items()]
    return "\n".join([HEAD, *(part + "\n" for part in parts)])


def main() -> None:
    PATH.write_text(written())
    print(PATH.relative_to(ROOT))


if __name__ == "__main__":
    main()
