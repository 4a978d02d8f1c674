"""The real package `spaces`, its ZeroGPU switch on, where there is no card and no CUDA in torch.

With this folder on PYTHONPATH the main process has the names that a build with CUDA has and
`spaces` reads as it is imported, and finds the card that ZeroGPU has in `card`, as under /proc: its
emulation is all its own. In a worker, which it forks, the two steps that need the card are done on
the processor: finding it, and moving onto it what was packed.

What the main process must not do ends it, or raises, and is written to its log in capitals: a
backward before the fork, a touch of the card, a packed weight read on whichever thread (its memory
is closed to reading, so that Python's faulthandler says where).
"""

import ctypes
import itertools
import mmap
import os
import sys
import threading
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent
MAIN = os.getpid()


def no_card(*_):
    if os.getpid() == MAIN:
        print("CARD TOUCHED in the main process", file=sys.stderr, flush=True)
    raise AssertionError("There is no card.")


def in_bad_fork():
    return False


class Engine:
    """Autograd's, in a worker."""

    def __init__(self, own):
        self.own = own

    def __getattr__(self, name):
        if os.getpid() == MAIN and name == "run_backward":
            print("BACKWARD in the main process", file=sys.stderr, flush=True)
            raise AssertionError("A backward before the fork.")
        return getattr(self.own, name)


class Closed(mmap.mmap):
    """What `spaces` keeps in place of a tensor's memory, closed to reading and writing."""

    def __new__(cls, *args, **named):
        made = super().__new__(cls, *args, **named)
        if sys._getframe(1).f_globals["__name__"] == "spaces.zero.torch.utils":
            start = ctypes.addressof(ctypes.c_char.from_buffer(made))
            ctypes.CDLL(None).mprotect(ctypes.c_void_p(start), ctypes.c_size_t(len(made)), 0)
        return made


def iterdir(folder, own=Path.iterdir):
    """Of the folder in which NVIDIA's driver tells of its cards, the one here."""
    return own(HERE / "card" if str(folder) == "/proc/driver/nvidia/gpus" else folder)


torch.version.cuda = torch.version.cuda or "12.8"
torch._C._cuda_init = no_card
torch.cuda._lazy_init = no_card
torch.cuda._is_in_bad_fork = in_bad_fork
variable = torch.autograd.variable.Variable
variable._execution_engine = Engine(variable._execution_engine)
mmap.mmap = Closed
Path.iterdir = iterdir


def on_the_processor():
    """In the child: what was put on the card in the main process, in memory."""
    zero = sys.modules.get("spaces.zero.torch")
    if zero is not None:
        zero.init = lambda _uuid: None
        zero.move = move


def move(callback=None):
    """Unpack what was packed, add what came later; then bases say where they are."""
    threading.Thread(target=end_with_the_app, daemon=True).start()
    from spaces.zero.torch import patching

    from personalization.bases import registry

    for pack in patching.tensor_packs:
        with open(pack.path(), "rb") as file:
            for tensor, size, aligned in [*itertools.chain(*pack.batches), *pack.big_tensors]:
                content = bytearray(file.read(aligned)[:size])
                whole = torch.tensor([], dtype=tensor.dtype)
                storage = torch.frombuffer(content or bytearray(1), dtype=torch.uint8)
                whole.set_(storage.untyped_storage(), 0, tensor.shape, tensor.stride())
                for fake in pack.fakes[tensor]:
                    fake.data = whole
    for fake, original in patching.cuda_aliases.items():
        if original is not None:
            fake.data = original
    for (name, source, _), base in list(registry._LOADED.items()):
        base.device = torch.device("cpu")
        registry._LOADED[name, source, "cpu"] = base


def end_with_the_app():
    while os.getppid() == MAIN:
        time.sleep(0.5)
    os._exit(0)


os.register_at_fork(after_in_child=on_the_processor)
