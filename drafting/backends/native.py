"""`native.c`, compiled for this machine when a process first needs it.

It takes a C compiler a third of a second, less than to load any model, and gives code for the very processor that it
will run on; so nothing is built at installation and nothing is kept. Where there is no compiler, or what it makes
cannot be loaded, the multiplications of torch's libraries remain (`packed_linear`).
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fopenmp", "-shared", "-fPIC")
_COMPILERS = ("cc", "gcc", "clang")
_TIMEOUT_S = 60.0

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_long, ctypes.c_int, ctypes.c_float


class CannotBuildError(Exception):
    """Why there is no native code; for people to read."""


@cache
def library() -> ctypes.CDLL:
    """The functions of `native.c`. Raises CannotBuildError, again at every call."""
    return built()


def built(*flags: str) -> ctypes.CDLL:
    """Compiled anew, with more flags."""
    compiler = _compiler()
    with tempfile.TemporaryDirectory(prefix="draftproof-") as folder:
        target = Path(folder) / "native.so"
        command = [*compiler, *_FLAGS, *flags, str(SOURCE), "-o", str(target), "-lm"]
        try:
            done = subprocess.run(  # noqa: S603 - the compiler that the user's environment names, on our own source
                command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False
            )
            if done.returncode != 0:
                first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:200])
                raise CannotBuildError(f"{compiler[0]} ended with {done.returncode}: {first.strip()}")
            loaded = ctypes.CDLL(str(target))  # stays loaded when the file is gone
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CannotBuildError(f"{compiler[0]}: {error}") from error
    loaded.draftproof_panel.argtypes, loaded.draftproof_panel.restype = (), _LONG
    loaded.draftproof_pack.argtypes = (_POINTER, _LONG, _LONG, _POINTER, _INT)
    loaded.draftproof_pack.restype = None
    loaded.draftproof_linear.argtypes = (
        *(_POINTER, _LONG, _LONG, _INT, _FLOAT),
        *(_POINTER, _POINTER, _LONG, _INT, _POINTER, _POINTER, _INT),
    )
    loaded.draftproof_linear.restype = None
    return loaded


def _compiler() -> list[str]:
    chosen = shlex.split(os.environ.get("CC", ""))
    if chosen:
        return chosen
    found = next((path for name in _COMPILERS if (path := shutil.which(name))), None)
    if found is None:
        raise CannotBuildError("there is no C compiler (cc, gcc or clang) on the PATH")
    return [found]
