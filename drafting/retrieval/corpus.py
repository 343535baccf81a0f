"""A corpus folder: chunks with their places in documents, memory-mapped and checked against the manifest.

    corpus.json        the manifest, written last             texts.bin          the chunks' texts, by chunk id
    inputs.jsonl       the files it was built from            text_spans.npy     where each begins in it, in bytes
    rejects.jsonl      what could not be read                 ids.npy            SHA-256 of each text, ascending
    documents.jsonl    id, title and length of each           places.npy         document, start, end; by chunk
    document_spans.npy where each line begins                 place_starts.npy   where a chunk's places begin
    origins.npy        file and line of each                  bm25/, dense/      the indexes

The row of a chunk is its rank among the ids: where scores are equal, the lower row goes first.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from draftproof.canonical import digest_bytes
from draftproof.drafting.retrieval.manifest import MANIFEST, CorpusManifest, check_files, read_manifest
from draftproof.drafting.retrieval.staging import ORIGIN_FILE, STORE_FILES
from draftproof.errors import InputError, UsageError

INPUTS_FILE = "inputs.jsonl"
REJECTS_FILE = "rejects.jsonl"
MOST_PLACES = 16
"""That a chunk tells of itself. A licence text may stand in a million files."""


class Place(BaseModel):
    """Where a chunk stands."""

    model_config = ConfigDict(frozen=True)

    document_id: str
    title: str
    start: int
    """In characters, in the document's text."""
    end: int


class Chunk(BaseModel):
    """A piece of text that is searched for and cited."""

    model_config = ConfigDict(frozen=True)

    id: str
    """`sha256:<64 hex>` of the text: the same in every corpus that has it."""
    text: str
    places: tuple[Place, ...]
    """All that it stands at, at most 16; the first is the one to cite."""


class Corpus:
    """Opened by `Corpus.open`. Reads what is asked for from the disk; may be used by several threads."""

    def __init__(self, folder: Path, manifest: CorpusManifest) -> None:
        self.folder = folder
        self.manifest = manifest
        self._texts = _mapped_bytes(folder / "texts.bin")
        self._documents = _mapped_bytes(folder / "documents.jsonl")
        self._text_spans = mapped(folder, "text_spans.npy", (manifest.counts.chunks + 1,), "<u8")
        self._ids = mapped(folder, "ids.npy", (manifest.counts.chunks, 32), "u1")
        self._place_starts = mapped(folder, "place_starts.npy", (manifest.counts.chunks + 1,), "<u8")
        self._places = mapped(folder, "places.npy", (manifest.counts.places, 3), "<u8")
        self._document_spans = mapped(folder, "document_spans.npy", (manifest.counts.documents + 1,), "<u8")
        self._origins = mapped(folder, ORIGIN_FILE, (manifest.counts.documents, 2), "<u8")

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Raises InputError for a folder without a whole corpus, and for one of which a file was changed or cut."""
        folder = Path(folder).expanduser()
        if not (folder / MANIFEST).is_file():
            raise InputError(
                f"There is no corpus in {folder}: {MANIFEST} is missing.",
                remedy=f"Build it: draftproof corpus build DOCS --out {folder}; a build that was stopped starts again.",
            )
        manifest = read_manifest(folder / MANIFEST, CorpusManifest)
        check_files(folder, {name: manifest.files[name] for name in manifest.files if not name.startswith("bm25/")})
        missing = [name for name in (*STORE_FILES, ORIGIN_FILE) if name not in manifest.files]
        if missing or not manifest.counts.chunks:
            raise InputError(f"The manifest of {folder} lists no {missing[0] if missing else 'chunks'}.")
        return cls(folder, manifest)

    @property
    def identity(self) -> str:
        """`name#digest`: what verdicts about its documents rest on."""
        return f"{self.folder.name}#{self.manifest.digest.partition(':')[2][:12]}"

    def __len__(self) -> int:
        """How many chunks there are."""
        return self.manifest.counts.chunks

    def chunk(self, row: int) -> Chunk:
        """Raises InputError where the text is no longer the one that the id is the digest of."""
        id, text = self.id_of(row), self.text(row)
        if digest_bytes(text.encode()) != id:
            raise InputError(
                f"The corpus {self.folder} was changed while it was open: a text is not that of {id}.",
                remedy="Build it again.",
            )
        return Chunk(id=id, text=text, places=self.places(row, MOST_PLACES))

    def find(self, chunk_id: str) -> Chunk:
        """The chunk of this id. Raises UsageError where there is none."""
        row = self.row_of(chunk_id)
        if row is None:
            raise UsageError(f"The corpus {self.folder} has no chunk {chunk_id!r}.")
        return self.chunk(row)

    def row_of(self, chunk_id: str) -> int | None:
        kind, _, digits = chunk_id.partition(":")
        try:
            wanted = bytes.fromhex(digits)
        except ValueError:
            return None
        if kind != "sha256" or len(wanted) != 32:
            return None
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self._ids[middle].tobytes() < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self._ids[low].tobytes() == wanted else None

    def id_of(self, row: int) -> str:
        return f"sha256:{self._ids[row].tobytes().hex()}"

    def text(self, row: int) -> str:
        begin, end = int(self._text_spans[row]), int(self._text_spans[row + 1])
        return self._texts[begin:end].decode(errors="replace")

    def places(self, row: int, most: int) -> tuple[Place, ...]:
        """Where the chunk stands, by the digests of the documents' ids, at most so many."""
        begin, end = int(self._place_starts[row]), int(self._place_starts[row + 1])
        found = []
        for document, start, stop in self._places[begin : min(end, begin + most)].tolist():
            about = self._document(document)
            found.append(Place(document_id=about["id"], title=about["title"], start=start, end=stop))
        return tuple(found)

    def origin(self, row: int) -> tuple[int, int]:
        """Number of the input file, from 0, and line, of the first document that the chunk stands in."""
        file, line = self._origins[int(self._places[int(self._place_starts[row]), 0])].tolist()
        return file, line

    def searched_text(self, row: int) -> str:
        """What the indexes are of: the titles of the documents that the chunk stands in, and its text."""
        places = self.places(row, MOST_PLACES)
        titles = [places[0].title] if len(places) == 1 else sorted({place.title for place in places})
        return "\n".join([*filter(None, titles), self.text(row)])

    def searched_texts(self, rows: Sequence[int]) -> list[str]:
        return [self.searched_text(row) for row in rows]

    def inputs(self) -> list[dict[str, Any]]:
        """The files that it was built from, with what became of their lines."""
        with (self.folder / INPUTS_FILE).open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def _document(self, row: int) -> dict[str, Any]:
        begin, end = int(self._document_spans[row]), int(self._document_spans[row + 1])
        about: dict[str, Any] = json.loads(self._documents[begin:end])
        return about


def mapped(folder: Path, name: str, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    """The array of a .npy file, memory-mapped. Raises InputError for one that is not of this shape and type."""
    try:
        array: NDArray[Any] = np.load(folder / name, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / name} cannot be read: {error}.", remedy="Build the corpus again.") from error
    if array.shape != shape or array.dtype != np.dtype(dtype):
        raise InputError(
            f"{folder / name} holds {array.dtype} of shape {array.shape} instead of {np.dtype(dtype)} of {shape}.",
            remedy="Build the corpus again.",
        )
    return array


def _mapped_bytes(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
