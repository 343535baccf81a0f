"""The files that a corpus is built from: those named, and those in the folders named.

A file's name in the corpus is its path from the folder that holds all that was named, so it does not depend on where
the command was started. In a folder every file counts, whatever it is called, but for hidden ones and what lies in the
corpus itself: one that cannot be read is told, not passed over.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from draftproof.errors import UsageError

Kind = Literal["records", "markdown", "text"]

_COMPRESSION = re.compile(r"\.(?:gz|gzip|zst|zstd)\Z", re.IGNORECASE)
_KINDS: dict[str, Kind] = {
    ".jsonl": "records", ".ndjson": "records", ".json": "records", ".md": "markdown", ".markdown": "markdown",
}  # fmt: skip


@dataclass(frozen=True)
class Input:
    """One file to read."""

    path: Path
    name: str
    """What the corpus calls it; a text file's document has this as its id."""
    kind: Kind
    """By its name: JSON Lines (or a JSON array), Markdown, or plain text for every other."""

    @property
    def size(self) -> int:
        """Bytes as stored; 0 where that cannot be said."""
        try:
            return self.path.stat().st_size
        except OSError:
            return 0


def find_inputs(named: Sequence[str | os.PathLike[str]], *, leave_out: Path) -> list[Input]:
    """The files, in the order of their names, each once. Raises UsageError where nothing of the name is there."""
    if not named:
        raise UsageError("No documents were named.", remedy="Name files or folders of them.")
    given = [Path(os.path.abspath(Path(each).expanduser())) for each in named]  # noqa: PTH100 - links are not resolved
    for path in given:
        if not path.exists():
            raise UsageError(f"There is no file or folder {path}.", remedy="Check the name.")
    top = Path(os.path.commonpath([path if path.is_dir() else path.parent for path in given]))
    apart = leave_out.resolve()
    paths: set[Path] = set()
    for path in given:
        paths.update(_below(path, apart) if path.is_dir() else [path])
    found = {path.relative_to(top).as_posix(): path for path in paths}
    return [Input(found[name], name, kind_of(name)) for name in sorted(found)]


def kind_of(name: str) -> Kind:
    """What the file's name says it is, compression aside."""
    return _KINDS.get(Path(_COMPRESSION.sub("", name)).suffix.lower(), "text")


def is_regular(path: Path) -> bool:
    """Whether it is a file with a content: a pipe or a device would be waited for, or never end."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def input_digest(path: Path) -> str | None:
    """SHA-256 of the bytes as stored; None where they cannot be read."""
    if not is_regular(path):
        return None
    try:
        with path.open("rb") as file:
            return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"
    except OSError:
        return None


def _below(folder: Path, apart: Path) -> list[Path]:
    found = []
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = [each for each in folders if not each.startswith(".") and (here / each).resolve() != apart]
        if here.resolve() != apart:
            found += [here / each for each in files if not each.startswith(".")]
    return found
