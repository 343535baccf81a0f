"""The dense index: one vector for each chunk, made block by block, so that it goes on where it was stopped.

A million chunks take hours on a few cores. Blocks are written in order, each flushed before it is counted in
`dense/progress.json`; the manifest comes last. Vectors are float16, which is exact to 0.001 on a cosine.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from draftproof.drafting.retrieval.corpus import Corpus
from draftproof.drafting.retrieval.manifest import DENSE_MANIFEST, DenseManifest, read_manifest, stored, write_manifest
from draftproof.errors import UsageError

if TYPE_CHECKING:  # torch comes with it
    from draftproof.drafting.retrieval.encoder import Encoder

VECTORS = "dense/vectors.npy"
_PARTIAL = "dense/vectors.partial.npy"
_PROGRESS = "dense/progress.json"
BLOCK = 512


def embed_corpus(corpus: Corpus, encoder: Encoder, *, report: Callable[[int, int], None] = lambda *_: None) -> None:
    """Add the vectors of all chunks, or those that an earlier call did not come to; none where all are there.

    Raises UsageError where vectors of another encoder are there.
    """
    folder, total = corpus.folder, len(corpus)
    there = dense_manifest(corpus)
    if there is not None and there.corpus == corpus.manifest.digest:
        if not same_encoder(there.encoder_identity, encoder.identity):
            raise UsageError(
                f"The corpus {folder} has the vectors of {there.encoder_identity}, not of {encoder.identity}.",
                remedy=f"Delete {folder / 'dense'} to have them made anew.",
            )
        return
    wanted = {
        "corpus": corpus.manifest.digest,
        "encoder": encoder.identity.rpartition("#")[2],
        "rows": total,
        "width": encoder.width,
    }
    done = _done(folder, wanted)
    if done is None:
        shutil.rmtree(folder / "dense", ignore_errors=True)
        (folder / "dense").mkdir()
        open_memmap(folder / _PARTIAL, mode="w+", dtype=np.float16, shape=(total, encoder.width)).flush()
        done = 0
    vectors = np.load(folder / _PARTIAL, mmap_mode="r+", allow_pickle=False)
    while done < total:
        report(done, total)
        end = min(total, done + BLOCK)
        vectors[done:end] = encoder.encode(corpus.searched_texts(range(done, end))).astype(np.float16)
        vectors.flush()
        done = end
        _note(folder, wanted | {"done": done})
    report(total, total)
    (folder / _PARTIAL).replace(folder / VECTORS)
    manifest = DenseManifest(
        corpus=corpus.manifest.digest, encoder=encoder.name, encoder_identity=encoder.identity, rows=total,
        width=encoder.width, files=stored(folder, [VECTORS]),
    )  # fmt: skip
    write_manifest(folder / DENSE_MANIFEST, manifest)
    (folder / _PROGRESS).unlink(missing_ok=True)


def dense_manifest(corpus: Corpus) -> DenseManifest | None:
    """What the corpus's vectors are; None where it has none, or not all yet."""
    path = corpus.folder / DENSE_MANIFEST
    return read_manifest(path, DenseManifest) if path.is_file() else None


def same_encoder(identity: str, other: str) -> bool:
    """Whether both make the same vectors; what they are called, or where they lie, does not matter."""
    return identity.rpartition("#")[2] == other.rpartition("#")[2]


def _done(folder: Path, wanted: dict[str, object]) -> int | None:
    """How many rows are there already; None where it has to begin anew."""
    try:
        noted = json.loads((folder / _PROGRESS).read_text(encoding="utf-8"))
        vectors = np.load(folder / _PARTIAL, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError):
        return None
    done = noted.pop("done", None) if isinstance(noted, dict) else None
    if noted != wanted or vectors.shape != (wanted["rows"], wanted["width"]) or vectors.dtype != np.float16:
        return None
    return done if isinstance(done, int) and 0 <= done <= vectors.shape[0] else None


def _note(folder: Path, progress: dict[str, object]) -> None:
    partial = folder / f"{_PROGRESS}.partial"
    partial.write_text(json.dumps(progress), encoding="utf-8")
    os.replace(partial, folder / _PROGRESS)  # noqa: PTH105 - one step
