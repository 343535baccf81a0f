"""Chunks as they are read, in files that only grow, until all documents are known and everything gets its place.

The finished store lists chunks in the order of their digests and documents in the order of the digests of their ids,
so it is the same whatever order the files were read in, and ties between chunks can be broken by their rows. That order
is known at the end only; until then, a chunk is its text and a record of 64 bytes on the disk. What is then held in
memory is these records, no texts.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.drafting.retrieval.chunking import Piece

_CHUNK = struct.Struct("<32sQIIQQ")
_CHUNKS = np.dtype(
    [("id", "S32"), ("at", "<u8"), ("bytes", "<u4"), ("document", "<u4"), ("start", "<u8"), ("end", "<u8")]
)
_DOCUMENT = struct.Struct("<32s32sQIIQQ")
_DOCUMENTS = np.dtype(
    [
        ("id", "S32"), ("content", "S32"), ("at", "<u8"), ("bytes", "<u4"), ("file", "<u4"), ("line", "<u8"),
        ("characters", "<u8"),
    ]
)  # fmt: skip
STORE_FILES = (
    "texts.bin", "text_spans.npy", "ids.npy", "place_starts.npy", "places.npy", "documents.jsonl", "document_spans.npy",
)  # fmt: skip
"""What the corpus's digest is of."""
ORIGIN_FILE = "origins.npy"


@dataclass(frozen=True)
class Conflict:
    """A document that was left out: its id was given to another text before."""

    id: str
    file: int
    line: int
    first_file: int
    first_line: int


@dataclass(frozen=True)
class Settled:
    """What became of the documents."""

    documents: int
    repeated: tuple[int, ...]
    """For each of them, the number of its file."""
    conflicts: tuple[Conflict, ...]
    chunks: int
    places: int
    characters: int


class Staging:
    """Takes one document after the other. A document that breaks off leaves nothing behind."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        with ExitStack() as stack:
            self._texts = stack.enter_context((folder / "texts").open("w+b", buffering=1 << 20))
            self._chunks = stack.enter_context((folder / "chunks").open("w+b", buffering=1 << 20))
            self._documents = stack.enter_context((folder / "documents").open("w+b", buffering=1 << 20))
            self._about = stack.enter_context((folder / "about").open("w+b", buffering=1 << 20))
            self._files = stack.pop_all()
        self._marks = (0, 0)
        self.documents = 0
        self._text_at = 0
        self._about_at = 0

    def __enter__(self) -> Staging:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def add(self, piece: Piece) -> None:
        """A chunk of the document that is being read."""
        data = piece.text.encode()
        self._texts.write(data)
        self._chunks.write(
            _CHUNK.pack(hashlib.sha256(data).digest(), self._text_at, len(data), self.documents, piece.start, piece.end)
        )
        self._text_at += len(data)

    @property
    def empty(self) -> bool:
        """Whether the document that is being read has no chunk so far."""
        return self._text_at == self._marks[0]

    def keep(self, *, id: str, title: str, content: str, characters: int, file: int, line: int) -> None:
        """The document that the chunks since the last call are of; `content` is the hexadecimal digest of its text."""
        about = json.dumps({"id": id, "title": title, "characters": characters}, ensure_ascii=False).encode() + b"\n"
        whole = hashlib.sha256(f"{title}\x00{content}".encode()).digest()
        self._documents.write(_DOCUMENT.pack(_name(id), whole, self._about_at, len(about), file, line, characters))
        self._about.write(about)
        self._about_at += len(about)
        self.documents += 1
        self._marks = (self._text_at, self._chunks.tell())

    def forget(self) -> None:
        """The chunks since the last document that was kept."""
        for file, mark in zip((self._texts, self._chunks), self._marks, strict=True):
            file.flush()
            file.truncate(mark)
            file.seek(mark)
        self._text_at = self._marks[0]

    def settle(self, folder: Path) -> Settled:
        """Writes the store into `folder`."""
        self._files.close()
        documents = np.fromfile(self._folder / "documents", dtype=_DOCUMENTS)
        order, dropped, conflicts = self._decide(documents)
        rows = np.full(len(documents), -1, dtype=np.int64)
        rows[order] = np.arange(len(order))
        self._write_documents(folder, documents[order])
        chunks = np.fromfile(self._folder / "chunks", dtype=_CHUNKS)
        chunks = chunks[rows[chunks["document"]] >= 0]
        kept = self._write_chunks(folder, chunks, rows)
        return Settled(
            documents=len(order),
            repeated=tuple(int(number) for number in documents["file"][dropped]),
            conflicts=conflicts,
            chunks=kept,
            places=len(chunks),
            characters=int(documents["characters"][order].sum()),
        )

    def _decide(self, documents: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any], tuple[Conflict, ...]]:
        """Rows of the documents kept, by the digests of their ids; of those repeated; and the conflicts."""
        order = np.argsort(documents["id"], kind="stable")
        ids = documents["id"][order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = ids[1:] != ids[:-1]
        leader = order[np.flatnonzero(first)[np.cumsum(first) - 1]]
        same = documents["content"][order] == documents["content"][leader]
        told = [
            Conflict(
                self._id(documents[row]), int(documents["file"][row]), int(documents["line"][row]),
                int(documents["file"][before]), int(documents["line"][before]),
            )
            for row, before in zip(order[~same], leader[~same], strict=True)
        ]  # fmt: skip
        return order[first], order[~first & same], tuple(sorted(told, key=lambda each: (each.file, each.line)))

    def _id(self, document: Any) -> str:
        with (self._folder / "about").open("rb") as file:
            file.seek(int(document["at"]))
            return str(json.loads(file.read(int(document["bytes"])))["id"])

    def _write_documents(self, folder: Path, documents: NDArray[Any]) -> None:
        _copy(self._folder / "about", documents["at"], documents["bytes"], folder / "documents.jsonl")
        np.save(folder / "document_spans.npy", _starts(documents["bytes"]))
        np.save(folder / ORIGIN_FILE, np.stack([documents["file"], documents["line"]], axis=1).astype("<u8"))

    def _write_chunks(self, folder: Path, chunks: NDArray[Any], rows: NDArray[np.int64]) -> int:
        places = np.stack([rows[chunks["document"]].astype("<u8"), chunks["start"], chunks["end"]], axis=1)
        order = np.lexsort((places[:, 1], places[:, 0], chunks["id"]))
        chunks, places = chunks[order], places[order]
        first = np.ones(len(chunks), dtype=bool)
        first[1:] = chunks["id"][1:] != chunks["id"][:-1]
        leaders = np.flatnonzero(first)
        np.save(folder / "places.npy", places)
        np.save(folder / "place_starts.npy", np.append(leaders, len(chunks)).astype("<u8"))
        ids = np.ascontiguousarray(chunks["id"][leaders])
        np.save(folder / "ids.npy", ids.view(np.uint8).reshape(-1, 32))
        np.save(folder / "text_spans.npy", _starts(chunks["bytes"][leaders]))
        _copy(self._folder / "texts", chunks["at"][leaders], chunks["bytes"][leaders], folder / "texts.bin")
        return len(leaders)


def _name(id: str) -> bytes:
    return hashlib.sha256(id.encode()).digest()


def _starts(lengths: NDArray[Any]) -> NDArray[np.uint64]:
    """Where each piece begins, and at the end where the last one ends."""
    starts = np.zeros(len(lengths) + 1, dtype="<u8")
    np.cumsum(lengths, out=starts[1:], dtype="<u8")
    return starts


def _copy(source: Path, at: NDArray[Any], lengths: NDArray[Any], target: Path) -> None:
    """The pieces of `source`, one after the other in this order."""
    with source.open("rb") as read, target.open("wb", buffering=1 << 20) as written:
        if not len(at):
            return
        with mmap.mmap(read.fileno(), 0, access=mmap.ACCESS_READ) as view:
            for begin, length in _pairs(at, lengths):
                written.write(view[begin : begin + length])


def _pairs(first: NDArray[Any], second: NDArray[Any], block: int = 1 << 16) -> Iterator[tuple[int, int]]:
    for begin in range(0, len(first), block):
        yield from zip(first[begin : begin + block].tolist(), second[begin : begin + block].tolist(), strict=True)
