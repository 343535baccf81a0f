"""The C sources beside this file, compiled for this machine when a process first needs them.

It takes a C compiler about a second, less than to load any model of use, and gives code for the very processor that it
will run on; so nothing is built at installation and nothing is kept. Where there is no compiler, or what it makes
cannot be loaded, the multiplications of torch's libraries remain (`packed_linear`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent
SOURCES = ("native.c", "native_layers.c", "native_run.c")
HEADERS = ("native_layers.h", "native_linear.h", "native_vectors.h", "native_weights.h")
_FLAGS = ("-O2", "-march=native", "-std=gnu11", "-fno-fast-math", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
"""-fno-fast-math: `$CC` may hold flags, and packing compares numbers bit by bit."""
_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT_S = 60.0
_OTHER_OPENMP = re.compile(rb"\0lib(omp|iomp5)\.so")

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float


class Matrix(ctypes.Structure):
    """`struct matrix` of `native_linear.h`. What its addresses point to must be held as long as it."""

    _fields_ = (
        *(("packed", _POINTER), ("gain", _POINTER), ("bias", _POINTER), ("width", _LONG), ("out_width", _LONG)),
        *(("before", _INT), ("form", _INT), ("floor", _FLOAT)),
    )


class Layer(ctypes.Structure):
    """`struct layer` of `native_layers.h`."""

    _fields_ = (
        *(("queries_keys_values", Matrix), ("out", Matrix), ("gate_up", Matrix), ("down", Matrix)),
        *(("head_norms", _POINTER), ("window", _LONG)),
    )


class Shape(ctypes.Structure):
    """`struct shape` of `native_layers.h`."""

    _fields_ = (("hidden", _LONG), ("heads", _LONG), ("kv_heads", _LONG), ("size", _LONG), ("head_floor", _FLOAT))


class Row(ctypes.Structure):
    """`struct row` of `native_layers.h`."""

    _fields_ = (
        *(("cache", _POINTER), ("room", _LONG), ("length", _LONG), ("start", _LONG), ("count", _LONG)),
        *(("depths", _POINTER), ("seen", _POINTER), ("first", _LONG)),
    )


class Wanted(ctypes.Structure):
    """`struct wanted` of `native_run.c`."""

    _fields_ = (
        *(("pending", _LONG), ("most", _LONG), ("halts", _POINTER)),
        *(("tokens", _POINTER), ("logits", _POINTER), ("states", _POINTER), ("made", _LONG)),
    )


class CannotBuildError(Exception):
    """Why there is no native code; for people to read."""


@cache
def library() -> ctypes.CDLL:
    """Their functions. Raises CannotBuildError, again at every call."""
    return built()


def built(*flags: str) -> ctypes.CDLL:
    """Compiled anew, with more flags, by the first compiler that can."""
    faults = []
    for compiler in _compilers():
        try:
            with tempfile.TemporaryDirectory(prefix="draftproof-") as folder:
                return _declared(_loaded(compiler, flags, Path(folder) / "native.so"))
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            faults.append(f"{compiler[0]}: {error}")
    raise CannotBuildError("; ".join(faults) or "there is no C compiler (cc, gcc or clang) on the PATH")


def _compilers() -> Iterator[list[str]]:
    """That of the environment before those on the PATH."""
    with contextlib.suppress(ValueError):  # a quote that is not closed
        chosen = shlex.split(os.environ.get("CC", ""))
        if chosen:
            yield chosen
    for name in _COMPILERS:
        found = shutil.which(name)
        if found is not None:
            yield [found]


def _loaded(compiler: list[str], flags: Sequence[str], target: Path) -> ctypes.CDLL:
    sources = [str(FOLDER / name) for name in SOURCES]
    command = [*compiler, *_FLAGS, *flags, *sources, "-o", str(target), "-lm"]
    done = subprocess.run(  # noqa: S603 - the compiler that the user's environment names, on our own source
        command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
    )
    if done.returncode != 0:
        first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
        raise ValueError(f"ended with {done.returncode}: {first.strip()}")
    if _OTHER_OPENMP.search(target.read_bytes()):
        # Two runtimes would have threads of their own, and Intel's ends a process in which it finds another.
        raise ValueError("the code needs another OpenMP than GNU's, which torch brings")
    return ctypes.CDLL(str(target))  # stays loaded when the file is gone


def _declared(code: ctypes.CDLL) -> ctypes.CDLL:
    code.draftproof_panel.argtypes, code.draftproof_panel.restype = (), _LONG
    code.draftproof_packed_bytes.argtypes, code.draftproof_packed_bytes.restype = (_LONG, _LONG, _INT), _LONG
    code.draftproof_pack.argtypes = (_POINTER, _LONG, _LONG, _INT, _POINTER, _INT)
    code.draftproof_pack.restype = _INT
    code.draftproof_linear.argtypes = (_POINTER, _POINTER, _LONG, _INT, _POINTER, _POINTER, _INT)
    code.draftproof_linear.restype = None
    code.draftproof_layers.argtypes = (
        *(_POINTER, _POINTER, _LONG, _LONG, _POINTER, _LONG, _LONG, _POINTER, _POINTER),
        *(_POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _POINTER, _LONG, _INT),
    )
    code.draftproof_layers.restype = None
    code.draftproof_run.argtypes = (
        *(_POINTER, _POINTER, _LONG, _POINTER, _POINTER, _INT, _POINTER, _POINTER, _LONG, _POINTER),
        *(_POINTER, _LONG, _POINTER),
        *(_POINTER,) * 9,
        *(_LONG, _INT),
    )
    code.draftproof_run.restype = None
    return code
