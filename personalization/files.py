"""Files that are the old one or the new one, never half; what one from outside is; sizes.

All that the package writes is written here.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from safetensors import SafetensorError, safe_open

from personalization.errors import AdapterError, WorkspaceError

PART = ".part"  # the end of a name while its content is written
SCRATCH = "personalization-"  # how the names of folders for an hour begin
MAX_HEADER = 8 * 2**20  # bytes of a safetensors file's list of tensors
# Of what it lists: a LyCORIS of SDXL with its text encoders has 7,000 tensors, a model's names have
# 120 characters. Names are compared with every spelling that is known, which takes its time.
MAX_TENSORS = 16_000
MAX_TENSOR_NAME = 500  # characters
MAX_DIMENSIONS = 8
MAX_ENTRIES = 5_000  # of what it says beside them
_PICKLE = (
    "is a pickle, whatever its name says, and could run code: it is not opened. "
    "Ask for a .safetensors file."
)
NOT_WRITABLE = (
    "The app cannot write into its folder. Whoever runs it: set PERSONALIZATION_HOME to a folder "
    "that can be written, and start it again."
)
# What lies under an adapter's name where there is none, by its first bytes.
_KINDS: tuple[tuple[bytes, str], ...] = (
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS, three lines of text that stand for the file: "
        "run “git lfs pull”, or take the file itself from its page.",
    ),
    (b"GGUF", "is a GGUF file, a model for other programs. Ask for a .safetensors file."),
    (b"\x89PNG", "is a picture (PNG), and no adapter. Ask for a .safetensors file."),
    (b"\xff\xd8\xff", "is a picture (JPEG), and no adapter. Ask for a .safetensors file."),
    (b"RIFF", "is a picture or a sound (RIFF), and no adapter. Ask for a .safetensors file."),
    (b"GIF8", "is a picture (GIF), and no adapter. Ask for a .safetensors file."),
    (b"%PDF", "is a PDF document, and no adapter. Ask for a .safetensors file."),
    (
        b"PK",
        "is a zip archive: a pickle in it could run code, and it is not opened. "
        "Where a .safetensors file lies in it, unpack it and give that.",
    ),
    (b"7z\xbc\xaf", "is a 7z archive. Unpack it, and give the .safetensors file in it."),
    (b"Rar!", "is a RAR archive. Unpack it, and give the .safetensors file in it."),
    (b"\x1f\x8b", "is a gzip archive. Unpack it, and give the .safetensors file in it."),
    (b"\x80", _PICKLE),
)


@dataclass(frozen=True)
class Header:
    """The head of a safetensors file: enough to say what the file is."""

    metadata: dict[str, str]
    shapes: dict[str, tuple[int, ...]]  # by tensor name

    def bounded(self, file: str) -> Header:
        """Itself. Raises `AdapterError` where it lists more than any adapter or model has."""
        longest = max(map(len, self.shapes), default=0)
        deepest = max(map(len, self.shapes.values()), default=0)
        counts = (
            (len(self.shapes), MAX_TENSORS, "tensors"),
            (longest, MAX_TENSOR_NAME, "characters in a tensor's name"),
            (deepest, MAX_DIMENSIONS, "dimensions in a tensor"),
            (len(self.metadata), MAX_ENTRIES, "entries in its head"),
        )
        for count, most, of_what in counts:
            if count > most:
                raise AdapterError(
                    f"{file} has {count} {of_what}, and at most {most} are read: no adapter has "
                    "as many. Ask who made it for a LoRA in diffusers' or kohya's format.",
                    field="adapter",
                )
        return self


def read_header(path: Path) -> Header:
    """Read a safetensors file's header and nothing else.

    Raises `AdapterError`, which names the file and says what it is where it is something else.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(4096)
        length = int.from_bytes(start[:8], "little")
        if MAX_HEADER < length <= size - 8:
            raise AdapterError(
                f"{path.name} has a head of {size_words(length)}, and at most "
                f"{size_words(MAX_HEADER)} are read. Ask who made it for one that says less.",
                field="adapter",
            )
        if not 2 <= length <= size - 8:
            raise AdapterError(f"{path.name} {what_it_is(start)}", field="adapter")
        with safe_open(path, framework="np") as opened:
            names = opened.keys()
            shapes = {name: tuple(opened.get_slice(name).get_shape()) for name in names}
            return Header(dict(opened.metadata() or {}), shapes).bounded(path.name)
    except (OSError, SafetensorError) as error:
        raise AdapterError(f"{path.name} {_reason(error)}", field="adapter") from error


def what_it_is(start: bytes) -> str:
    """The end of a sentence, from the first bytes of a file that is no safetensors file."""
    if not start:
        return "is empty, and not a whole safetensors file. Download it again."
    if not start.strip(b"\0"):
        return "begins with zeros alone: its download has not come far. Download it again."
    if start.startswith(b"PK") and b".pkl" in start:  # how PyTorch saves
        return _PICKLE
    for mark, kind in _KINDS:
        if start.startswith(mark):
            return kind
    return _text(start) or "is not a whole safetensors file. Download it again."


def write_atomically(path: Path, content: bytes | str) -> Path:
    """Write beside `path`, flush to the disk, rename over it. Readers never see a part.

    Its folder is made, and none above that: what was deleted meanwhile does not come back.
    """
    with writing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


def copy_atomically(source: Path, path: Path) -> Path:
    """The same for what another file holds, of any size."""
    with Path(source).open("rb") as old, writing(path) as new:
        shutil.copyfileobj(old, new)
    return Path(path)


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """A file that is at `path` once all is written, and nowhere where that fails."""
    path = Path(path)
    path.parent.mkdir(exist_ok=True)
    part, held = _held(lambda: _empty_file(path))
    try:
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        os.close(held)


def append_lines(path: Path, lines: Iterable[str]) -> None:
    """Add lines to a journal. Whoever reads it leaves out a last line that was cut short.

    Such a line goes before the next ones come; where the disk takes not all of them, it keeps none.
    """
    left = memoryview("".join(f"{line}\n" for line in lines).encode())
    with Path(path).open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        if size:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.seek(0)
                size = file.read().rfind(b"\n") + 1
                file.truncate(size)
        try:
            while left:
                left = left[file.write(left) :]
        except OSError:
            file.truncate(size)
            raise


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """A folder for what other code writes, until that is read; in `parent`, or a temporary one."""
    folder, held = _held(lambda: tempfile.mkdtemp(prefix=SCRATCH, suffix=PART, dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def open_lock(path: Path) -> IO[bytes]:
    """A file that is there for its lock, and holds nothing: nobody writes by it."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_CREAT, 0o666), "rb")


def clear_parts(folder: Path, begins: str = "") -> int:
    """Delete what killed processes left half written; returns how many there were.

    What is being written now is locked, and stays. With `begins`, only what is called so, and in
    the folder itself.
    """
    cleared = 0
    for root, folders, names in os.walk(folder):
        parts = [name for name in (*folders, *names) if name.endswith(PART)]
        cleared += sum(_cleared(Path(root, name)) for name in parts if name.startswith(begins))
        folders[:] = [] if begins else [name for name in folders if not name.endswith(PART)]
    return cleared


def _cleared(part: Path) -> bool:
    with suppress(OSError):  # it is in use, another's, or done by now
        descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink()
            return True
        finally:
            os.close(descriptor)
    return False


def _empty_file(path: Path) -> str:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=path.name[:60], suffix=PART)
    os.close(descriptor)
    return name


def _held(make: Callable[[], str]) -> tuple[Path, int]:
    """What `make` has made, by name and as a descriptor whose lock says that it is in use."""
    while True:
        path = make()
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:  # taken for a killed process's before it had its lock
            continue
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if os.fstat(descriptor).st_nlink:
            return Path(path), descriptor
        os.close(descriptor)


def disk_problem(error: BaseException) -> str:
    """What the disk refuses, as a sentence; "" for what is not the disk's."""
    if not isinstance(error, OSError):
        return ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return (
            "The disk is full, and this could not be kept. Delete runs, adapters or photos that "
            "you no longer need, then try again."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR):
        return NOT_WRITABLE
    if error.errno == errno.ENOENT:
        return (
            "What this belongs to was deleted meanwhile, in another tab or as unused: begin anew."
        )
    return ""


@contextmanager
def on_disk() -> Iterator[None]:
    """Writing: raises `WorkspaceError` for what the disk refuses."""
    try:
        yield
    except OSError as error:
        if not disk_problem(error):
            raise
        raise WorkspaceError(disk_problem(error)) from error


def size_words(size: float) -> str:
    """Bytes as a person says them: "3 KB", "1.4 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if size >= 0.9995 * scale:
            number = size / scale
            digits = f"{number:.1f}".removesuffix(".0") if number < 9.95 else f"{number:.0f}"
            return f"{digits} {unit}"
    return f"{size:.0f} bytes"


def _text(start: bytes) -> str:
    """What a text is, or "" for what is none."""
    try:
        text = start[: start.rfind(b"\n") + 1 or None].decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        return ""
    if not text or not all(c.isprintable() or c.isspace() for c in text):
        return ""
    if text.lower().startswith(("<!doctype", "<html", "<head", "<?xml", "<body")):
        return (
            "is a web page, saved under an adapter's name: often one that asks to sign in. "
            "Sign in there, and save the file itself."
        )
    kind = "a text in JSON" if text[0] in "{[" else "a text"
    return f"is {kind}, and no adapter. It begins “{' '.join(text[:80].split())}”."


def _reason(error: Exception) -> str:
    """The end of a sentence that says why a file which looks like safetensors is not read."""
    if "not fully covered" in str(error) or "invalid shape" in str(error):
        return (
            "is cut short or padded: its tensors do not end where the file does. Download it again."
        )
    return f"cannot be read as a safetensors file ({error}). Download it again."
