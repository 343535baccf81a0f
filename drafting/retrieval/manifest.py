"""What a corpus folder says of itself, and the check that its files are those that were written.

`corpus.json` is written last and in one step: a folder without it is no corpus. It holds the size and SHA-256 of every
file of the corpus and of its word index, and is compared with them before they are used. The vectors of the dense index
have a manifest of their own, in `dense/`, because they may be added later; it names the corpus that they belong to.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from draftproof.errors import InputError

MANIFEST = "corpus.json"
DENSE_MANIFEST = "dense/dense.json"


class StoredFile(BaseModel):
    """One file as it was written."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int
    sha256: str


class Counts(BaseModel):
    """Nothing vanishes: entries = documents + repeated + rejected."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: int
    entries: int
    """Lines of JSON that say something, and text files."""
    documents: int
    repeated: int
    """Documents that were there already, with the same id and text."""
    rejected: int
    chunks: int
    """Different ones; a text that occurs in many places is one."""
    places: int
    """Places in documents that the chunks stand at."""
    characters: int
    """Of all documents."""
    words: int
    """Of all chunks, as the word index counts them."""
    vocabulary: int
    """Different words."""

    @model_validator(mode="after")
    def _nothing_vanishes(self) -> Counts:
        if self.entries != self.documents + self.repeated + self.rejected:
            raise ValueError("entries are not documents + repeated + rejected")
        return self


class CorpusManifest(BaseModel):
    """`corpus.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    draftproof: str
    """The version that built it."""
    digest: str
    """Of documents, chunks and their places. The same documents, cut alike, have the same one, whatever the order of
    the files and wherever they lay."""
    chunking: str
    """Name and version of the rule."""
    words: int
    overlap: int
    fields: str
    """What the fields of JSON documents were called."""
    counts: Counts
    word_rule: str
    """Name and version of how texts become words."""
    files: dict[str, StoredFile]
    """Path in the folder -> what was written there."""


class DenseManifest(BaseModel):
    """`dense/dense.json`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    corpus: str
    """Digest of the corpus that the vectors belong to."""
    encoder: str
    """Name of the model, or the path of its folder."""
    encoder_identity: str
    """`name#digest` of what its vectors depend on."""
    rows: int
    width: int
    dtype: Literal["float16"] = "float16"
    files: dict[str, StoredFile]


def write_manifest(path: Path, manifest: BaseModel) -> None:
    """In one step: the file is there whole, or not at all, even after a power cut."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


M = TypeVar("M", bound=BaseModel)


def read_manifest(path: Path, kind: type[M]) -> M:
    """Raises InputError for what is no manifest of this format."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise InputError(
            f"{path} cannot be read as the manifest of a corpus: {told}.",
            remedy="Build the corpus again; another version of draftproof may have written this one.",
        ) from error


def stored(folder: Path, names: list[str]) -> dict[str, StoredFile]:
    """The files as they are now, on the disk when this returns."""

    def one(name: str) -> StoredFile:
        with (folder / name).open("rb+") as file:
            os.fsync(file.fileno())
            return StoredFile(bytes=os.fstat(file.fileno()).st_size, sha256=_sha256(folder / name))

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(names, pool.map(one, names), strict=True))


def check_files(folder: Path, files: Mapping[str, StoredFile]) -> None:
    """Raises InputError, which names the file, where one is missing, shorter, longer or otherwise not as written."""
    for name, wanted in files.items():
        try:
            found = (folder / name).stat().st_size
        except OSError:
            raise _damaged(folder, f"{name} is missing") from None
        if found != wanted.bytes:
            raise _damaged(folder, f"{name} has {found:,} bytes instead of {wanted.bytes:,}")
    with ThreadPoolExecutor(2) as pool:
        digests = pool.map(lambda name: _sha256(folder / name), files)
        for (name, wanted), digest in zip(files.items(), digests, strict=True):
            if digest != wanted.sha256:
                raise _damaged(folder, f"{name} is not what was written: its SHA-256 is another")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _damaged(folder: Path, what: str) -> InputError:
    return InputError(
        f"The corpus {folder} is damaged: {what}.",
        remedy="Build it again into a new folder, or bring this one back from a copy.",
    )
