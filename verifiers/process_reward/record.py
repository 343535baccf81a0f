"""`process_reward.json`: what our own training writes beside the weights of a process reward model.

The weights are an ordinary token classifier of transformers. The file adds what they do not say: which separators the
model was trained with, where it came from and how good it was on what it had not seen; and it is bound to these very
weights by their digest, so that a record cannot end up beside other ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from draftproof.errors import ModelError
from draftproof.verifiers.process_reward.layouts import Layout

FILE = "process_reward.json"


class ProcessRewardRecord(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["draftproof-process-reward"] = "draftproof-process-reward"
    version: Literal[1] = 1
    layout: Layout
    problem_separator: str
    """Between the problem and the first step."""
    step_separator: str
    """Behind each step; the score stands at its last token."""
    weights: str
    """`files_digest` of the safetensors."""
    training: dict[str, Any]
    """Provenance: base model, data, counts, settings. JSON values."""
    held_out: dict[str, Any]
    """Measures on solutions that it was not trained on."""


def read_record(folder: Path, weights: str) -> ProcessRewardRecord | None:
    """The record in `folder`, or None. Raises ModelError for one that cannot be read or belongs to other weights."""
    file = folder / FILE
    if not file.is_file():
        return None
    try:
        record = ProcessRewardRecord.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise ModelError(
            f"{file} cannot be read: {error}", remedy="Train the model again, or delete the file and give layout=."
        ) from error
    if record.weights != weights:
        raise ModelError(
            f"{file} belongs to other weights than those beside it.",
            remedy="Get the whole folder again, all its files.",
        )
    return record


def write_record(folder: Path, record: ProcessRewardRecord) -> None:
    (folder / FILE).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")


def files_digest(files: Sequence[Path]) -> str:
    """`sha256:…` over names and bytes of files, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as opened:
            digest.update(f"{file.name}:{hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
    return f"sha256:{digest.hexdigest()}"
