"""The word index: BM25 weights as a sparse matrix in bm25s's own files, built in blocks of chunks.

bm25s computes the weights of the whole corpus in memory, from a list of token ids for each text; for a million chunks
that takes tens of gigabytes. Here the counts go to the disk as they are made, and the matrix is filled block by block
in memory-mapped files. The files are those of `bm25s.BM25.save`, and the weights are the same: Lucene's variant
(Kamphuis et al. 2020, "Which BM25 do you mean?"), with n chunks, df of them with the word, tf times in one of l words:

    weight = ln(1 + (n − df + ½) / (df + ½)) · tf / (tf + k1·(1 − b + b·l / mean l))        k1 = 1.5, b = 0.75
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from draftproof.drafting.retrieval.words import words
from draftproof.errors import InputError

K1, B = 1.5, 0.75
WORD_INDEX_FILES = (
    "bm25/data.csc.index.npy", "bm25/indices.csc.index.npy", "bm25/indptr.csc.index.npy", "bm25/vocab.index.json",
    "bm25/params.index.json",
)  # fmt: skip
_BLOCK = 1 << 15
_Counted = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class Written:
    words: int
    vocabulary: int


def write_word_index(
    texts: Callable[[int], str], count: int, folder: Path, scratch: Path, report: Callable[[int, int], None]
) -> Written:
    """Indexes `count` texts, got one by one from `texts`, into `folder`/bm25.

    `scratch` is a folder for what is deleted afterwards: about as large as the index. `report` is told how much of the
    work is done, of how much. Raises InputError where no text has a word.
    """
    target = folder / "bm25"
    target.mkdir()
    vocabulary: defaultdict[str, int] = defaultdict()
    vocabulary.default_factory = vocabulary.__len__
    lengths = np.zeros(count, dtype=np.int32)
    holding = np.zeros(0, dtype=np.int64)
    blocks = []
    report(0, 2 * count)
    for begin in range(0, count, _BLOCK):
        end = min(count, begin + _BLOCK)
        counted = _count([texts(row) for row in range(begin, end)], begin, vocabulary, lengths)
        holding = _added(holding, counted[0], len(vocabulary))
        blocks.append(scratch / f"counts-{begin}.npy")
        np.save(blocks[-1], np.stack(counted))
        report(end, 2 * count)
    if not vocabulary:
        raise InputError("No document has a word in it.", remedy="Give documents with text.")
    _fill(target, blocks, holding, lengths, lambda done: report(count + done, 2 * count))
    _finish(target, vocabulary, count)
    return Written(int(lengths.sum(dtype=np.int64)), len(vocabulary))


def _count(texts: list[str], begin: int, vocabulary: defaultdict[str, int], lengths: NDArray[np.int32]) -> _Counted:
    """Word, row and how often, for every word of every text, by word and then by row."""
    flat: list[int] = []
    for row, text in enumerate(texts, start=begin):
        found = words(text)
        lengths[row] = len(found)
        flat.extend(map(vocabulary.__getitem__, found))
    rows = np.repeat(np.arange(begin, begin + len(texts), dtype=np.int64), lengths[begin : begin + len(texts)])
    pairs, times = np.unique(np.array(flat, dtype=np.int64) << 32 | rows, return_counts=True)
    return (pairs >> 32).astype(np.int32), (pairs & 0xFFFFFFFF).astype(np.int32), times.astype(np.int32)


def _added(holding: NDArray[np.int64], found: NDArray[np.int32], size: int) -> NDArray[np.int64]:
    """How many texts hold each word, these included."""
    total = np.bincount(found, minlength=size)
    total[: len(holding)] += holding
    return total


def _fill(
    target: Path,
    blocks: list[Path],
    holding: NDArray[np.int64],
    lengths: NDArray[np.int32],
    report: Callable[[int], None],
) -> None:
    """Writes the matrix, one column a word and one row a text, rows ascending within a column."""
    count = len(lengths)
    indptr = np.zeros(len(holding) + 1, dtype=np.int64)
    np.cumsum(holding, out=indptr[1:])
    np.save(target / "indptr.csc.index.npy", indptr)
    total = (int(indptr[-1]),)
    data = open_memmap(target / "data.csc.index.npy", mode="w+", dtype=np.float32, shape=total)
    indices = open_memmap(target / "indices.csc.index.npy", mode="w+", dtype=np.int32, shape=total)
    rarity = np.log1p((count - holding + 0.5) / (holding + 0.5))
    stretch = K1 * (1.0 - B + B * lengths / lengths.mean())
    free = indptr[:-1].copy()
    for number, block in enumerate(blocks, start=1):
        word, row, times = np.load(block, allow_pickle=False)
        first = np.flatnonzero(np.diff(word, prepend=-1))
        found = np.diff(np.append(first, len(word)))
        at = np.repeat(free[word[first]] - first, found) + np.arange(len(word))
        free[word[first]] += found
        data[at] = rarity[word] * (times / (times + stretch[row]))
        indices[at] = row
        block.unlink()
        report(min(count, number * _BLOCK))
    data.flush()
    indices.flush()


def _finish(target: Path, vocabulary: dict[str, int], count: int) -> None:
    with (target / "vocab.index.json").open("w", encoding="utf-8") as file:
        file.writelines(_json_object(vocabulary))
    settings: dict[str, Any] = {
        "k1": K1, "b": B, "delta": 0.5, "method": "lucene", "idf_method": "lucene", "dtype": "float32",
        "int_dtype": "int32", "num_docs": count, "version": version("bm25s"), "backend": "numpy",
    }  # fmt: skip
    (target / "params.index.json").write_text(json.dumps(settings, indent=4), encoding="utf-8")


def _json_object(vocabulary: dict[str, int]) -> Iterator[str]:
    """Piece by piece: a vocabulary of millions is not written out in memory as well."""
    opening = "{"
    for word, number in vocabulary.items():
        yield f"{opening}{json.dumps(word, ensure_ascii=False)}: {number}"
        opening = ", "
    yield "}"
