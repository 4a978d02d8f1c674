"""What somebody who means harm would send: files, fields, events. None is dangerous to read.

Every text that a page could run sets `window.hostile`; a page that is well never has it.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from personalization.bases.catalog import ASSETS
from personalization.sampling.picture_record import KEY

SCRIPTS = (
    "<script>window.hostile = 1</script>",
    "<img src=x onerror='window.hostile = 1'>",
    '"><svg onload="window.hostile = 1">',
    "' onmouseover='window.hostile = 1' autofocus onfocus='window.hostile = 1",
    "javascript:window.hostile=1",
    "[a](javascript:window.hostile=1)",
    "</textarea><iframe srcdoc='<script>parent.hostile = 1</script>'>",
)
PATHS = (
    *("/etc/passwd", "../../../../etc/passwd", "..", ".", "/", "~", "file:///etc/passwd"),
    *(
        "\\\\host\\share",
        "C:\\Windows\\win.ini",
        "a/../../b",
        "%2e%2e%2f",
        "\0",
        "con",
        "/proc/self/environ",
    ),
)
TEXTS = (
    *SCRIPTS,
    *PATHS,
    "",
    " ",
    "x" * 5000,
    "\u202e" * 50,
    "\U0001f600" * 500,
    "{}",
    "{{7*7}}",
    "%s%n",
)
WRONG: tuple[Any, ...] = (
    *(None, True, -1, 0.5, 1e308, 2**70, [], {}, [None], [[[]]], {"a": 1}, "x", "/etc/passwd"),
    {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}},
    [{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}],
    {
        "path": "http://127.0.0.1:1/a",
        "url": "http://127.0.0.1:1/a",
        "meta": {"_type": "gradio.FileData"},
    },
    {"__type__": "update", "value": "x"},
)
# What Python says of its own, and no sentence to a visitor does.
PYTHON = (
    *(
        "Traceback (most",
        'File "/',
        "NoneType",
        "has no attribute",
        "not subscriptable",
        "KeyError",
    ),
    *("positional argument", "not supported between", "codec can't", "TypeError", "ValueError"),
    *("Errno", "unhashable", "object is not", "list index", "must be str", "_type="),
)

READY = (ASSETS / "adapters" / "neon.safetensors").read_bytes()


def is_pythons(answer: str) -> bool:
    """Whether an answer is in Python's words: a sentence may name a kind of error, no more."""
    return any(sign in re.sub(r"foresee \(\w+\)", "", answer) for sign in PYTHON)


class Bomb:
    """Runs a command where it is unpickled: it makes a file, by which one would know."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.mark}",)


def png(*, side: int = 96, **text: str) -> bytes:
    """A picture, with texts in it."""
    info, content = PngInfo(), io.BytesIO()
    for key, value in text.items():
        info.add_text(key.replace("_", " "), value)
    Image.effect_noise((side, side), 80).convert("RGB").save(content, "PNG", pnginfo=info)
    return content.getvalue()


def claimed(width: int, height: int) -> bytes:
    """A PNG whose head says another size than its content has."""
    content = bytearray(png())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return bytes(content)


def zipped(*names: str, content: bytes = b"x") -> bytes:
    """A zip with files of these names."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, content)
    return packed.getvalue()


def tarred(name: str, link: str) -> bytes:
    """A tar with a link to somewhere."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, link
        archive.addfile(member)
    return packed.getvalue()


def safetensors(header: Any, body: bytes = b"") -> bytes:
    """A file with that head."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + body


def tensor(shape: list[int], start: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    """What a head says of a tensor."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def adapters(mark: str) -> Iterator[tuple[str, bytes]]:
    """Files under the name of an adapter; `mark` is made by what runs of them."""
    place = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn1_to_k"
    yield from {
        "empty.safetensors": b"",
        "zeros.safetensors": bytes(100_000),
        "pickle.safetensors": pickle.dumps(Bomb(mark)),
        "pickle.pt": pickle.dumps(Bomb(mark)),
        "pickle.bin": pickle.dumps({"a": Bomb(mark)}, 2),
        "pickle.ckpt": zipped("archive/data.pkl", content=pickle.dumps(Bomb(mark))),
        "slip.safetensors": zipped("../../../tmp/slip", "/etc/slip"),
        "bomb.safetensors": zipped("a", content=bytes(20_000_000)),
        "gzip.safetensors": gzip.compress(bytes(20_000_000)),
        "link.safetensors": tarred("a.safetensors", "/etc/passwd"),
        "page.safetensors": b"<!doctype html>" + SCRIPTS[0].encode(),
        "lfs.safetensors": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        "gguf.safetensors": b"GGUF" + bytes(100),
        "png.safetensors": png(),
        "endless.safetensors": struct.pack("<Q", 2**63) + b"{}",
        "negative.safetensors": b"\xff" * 64,
        "deep.safetensors": safetensors(b"[" * 100_000),
        "list.safetensors": safetensors([1, 2]),
        "null.safetensors": safetensors(None),
        "nan.safetensors": safetensors(b'{"a": NaN}'),
        "utf.safetensors": safetensors(b'{"\xff\xfe": 1}'),
        "twice.safetensors": safetensors(b'{"a":1,"a":2}'),
        "no-tensors.safetensors": safetensors({}),
        "only-metadata.safetensors": safetensors({"__metadata__": {"a": "b"}}),
        "bad-metadata.safetensors": safetensors({"__metadata__": [1]}),
        "overlap.safetensors": safetensors(
            {"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, bytes(4)
        ),
        "beyond.safetensors": safetensors({"a": tensor([1000], 0, 4000)}, bytes(4)),
        "minus.safetensors": safetensors({"a": tensor([-1], 0, 4)}, bytes(4)),
        "huge-shape.safetensors": safetensors({"a": tensor([2**40, 2**40], 0, 4)}, bytes(4)),
        "zero-rank.safetensors": safetensors(
            {
                f"{place}.lora_down.weight": tensor([0, 64], 0, 0),
                f"{place}.lora_up.weight": tensor([64, 0], 0, 0),
            }
        ),
        "dtype.safetensors": safetensors({"a": tensor([1], 0, 4, "O")}, bytes(4)),
        "kronecker.safetensors": safetensors(
            {
                f"{place}.lokr_w1": tensor([700, 700], 0, 1_960_000),
                f"{place}.lokr_w2": tensor([700, 700], 1_960_000, 3_920_000),
            },
            bytes(3_920_000),
        ),
        "rank.safetensors": safetensors(
            {
                f"{place}.lora_down.weight": tensor([9000, 64], 0, 2_304_000),
                f"{place}.lora_up.weight": tensor([64, 9000], 2_304_000, 4_608_000),
            },
            bytes(4_608_000),
        ),
        "cut.safetensors": READY[: len(READY) // 2],
        "padded.safetensors": READY + bytes(1000),
        "names.safetensors": safetensors(
            {name: tensor([1], 4 * i, 4 * i + 4) for i, name in enumerate(TEXTS[:12])}, bytes(48)
        ),
        "prefixes.safetensors": safetensors({"unet." * 1_000_000: tensor([0], 0, 0)}),
        "told.safetensors": retold(
            {
                "personalization": json.dumps(
                    {"method": "lora", "family": "", "title": "x" * 7_000_000}
                )
            }
        ),
        "many.safetensors": safetensors({f"x{i}": tensor([0], 0, 0) for i in range(50_000)}),
    }.items()
    for number, script in enumerate(SCRIPTS):
        told = {"personalization": json.dumps({"title": script}), "ss_output_name": script}
        told |= {"modelspec.title": script, "ss_tag_frequency": json.dumps({script: {script: 1}})}
        yield f"{script[:40].replace('/', '')}-{number}.safetensors", retold(told)


def retold(metadata: dict[str, str]) -> bytes:
    """An adapter of the app's own that says other things of itself."""
    length = int.from_bytes(READY[:8], "little")
    header = json.loads(READY[8 : 8 + length])
    header["__metadata__"] |= metadata
    return safetensors(header, READY[8 + length :])


def photos() -> Iterator[tuple[str, bytes]]:
    """Files under the names of photos."""
    svg = f"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/>{SCRIPTS[0]}</svg>"
    tiff, gif = io.BytesIO(), io.BytesIO()
    Image.new("L", (96, 96)).save(
        tiff, "TIFF", save_all=True, append_images=[Image.new("L", (96, 96))] * 70
    )
    Image.new("P", (96, 96)).save(
        gif, "GIF", save_all=True, append_images=[Image.new("P", (96, 96), i) for i in range(90)]
    )
    yield from {
        "empty.png": b"",
        "text.png": b"not a picture",
        "page.png": f"<html>{SCRIPTS[0]}".encode(),
        "drawing.svg": svg.encode(),
        "drawing.png": svg.encode(),
        "entity.svg": b"<!DOCTYPE x [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><svg>&a;</svg>",
        "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n",
        "postscript.eps": b"%!PS\n(/etc/passwd) (r) file\n",
        "document.pdf": b"%PDF-1.4\n",
        "bomb.png": claimed(60_000, 60_000),
        "large.png": claimed(9_000, 9_000),
        "nothing.png": claimed(0, 0),
        "small.png": png(side=8),
        "long.png": zlib_bomb(),
        "cut.png": png()[:300],
        "pages.tif": tiff.getvalue(),
        "film.gif": gif.getvalue(),
        "archive.png": zipped("a.png", content=png()),
        "pickle.png": pickle.dumps({"a": 1}),
        "adapter.png": READY[:5000],
        "told.png": png(Comment=SCRIPTS[1], Title=SCRIPTS[0], name=SCRIPTS[2]),
        "-mask.png": png(),
        "a-mask.png": png(),
        **{f"{script[:50].replace('/', '')}.png": png() for script in SCRIPTS},
        f"{'x' * 200}.png": png(),
        ".png": png(),
        "..png": png(),
        "a\nb.png": png(),
        "a.PNG.exe": png(),
    }.items()


def zlib_bomb() -> bytes:
    """A PNG whose text unpacks to far more than it is."""
    body = b"Comment\0\0" + zlib.compress(bytes(30_000_000), 9)
    chunk = (
        struct.pack(">I", len(body))
        + b"zTXt"
        + body
        + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    )
    content = png()
    return content[:33] + chunk + content[33:]


def records() -> Iterator[tuple[str, bytes]]:
    """Pictures with records that the app has not written."""
    wrong = [*WRONG, "[" * 3000, "9" * 5000, '{"seed": NaN}', '{"prompt": {"a": [1]}}']
    for number, value in enumerate(wrong):
        text = value if isinstance(value, str) else json.dumps(value)
        yield f"record-{number}.png", png(**{KEY: text})
    for number, script in enumerate((*SCRIPTS, *PATHS[:5])):
        told = {
            "prompt": script,
            "base": script,
            "start": script,
            "task": "image",
            "scheduler": script,
        }
        told |= {"adapters": [{"name": script, "title": script, "blocks": {script: 1}}]}  # type: ignore[dict-item]
        yield f"told-{number}.png", png(**{KEY: json.dumps(told)})


def recipes() -> Iterator[tuple[str, bytes]]:
    """Files under the name of a recipe."""
    from personalization.bases.catalog import CATALOG

    own = json.loads(CATALOG["pocket"].recipes["subject"].to_json())
    for number, content in enumerate(
        (
            b"",
            b"{}",
            b"[]",
            b"null",
            b"[" * 9000,
            b"9" * 9000,
            b'{"steps": NaN}',
            b"\xff\xfe",
            READY[:500],
            pickle.dumps(1),
        )
    ):
        yield f"recipe-{number}.json", content
    for key in own:
        for value in (None, -1, 10**9, "x", [], {"kind": "lora", "rank": 10**6}):
            yield f"{key}.json", json.dumps(own | {key: value}).encode()
