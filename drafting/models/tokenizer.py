"""A checkpoint's tokenizer, as its tokenizer.json has it.

Some tokenizer classes of transformers 5 build their pipeline anew from the vocabulary and the merges alone. What
tokenizer.json says beside these is then lost: SmolLM2's, loaded as the `GPT2Tokenizer` that its configuration
names, no longer splits digits first and gives other ids for "\\n\\n1.". The file is what the model was trained
with, so its parts are put back.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from draftproof.errors import ModelError

_PARTS = ("normalizer", "pre_tokenizer", "decoder")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Raises ModelError for files that transformers cannot make a tokenizer of."""
    try:
        tokenizer = cast(Any, AutoTokenizer).from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        file = folder / "tokenizer.json"
        backend = getattr(tokenizer, "backend_tokenizer", None)
        if isinstance(backend, Tokenizer) and file.is_file():
            _restore(backend, file)
    except Exception as error:  # hostile or damaged files fail in many ways, in Rust and in Python
        raise ModelError(
            f"The tokenizer in {folder} cannot be loaded: {type(error).__name__}: {_first_line(error)}",
            remedy="Copy the tokenizer files of the model into the folder again.",
        ) from error
    return cast(PreTrainedTokenizerBase, tokenizer)


def _restore(backend: Tokenizer, file: Path) -> None:
    """Give `backend` the parts of `file` that it does not have. What it adds around a text stays as it is."""
    wanted = json.loads(file.read_text(encoding="utf-8"))
    have = json.loads(backend.to_str())
    if all(wanted.get(part) == have[part] for part in _PARTS) and _settings(wanted) == _settings(have):
        return
    whole = cast(Any, Tokenizer.from_file(str(file)))
    changed = cast(Any, backend)
    changed.model = whole.model
    for part in _PARTS:
        setattr(changed, part, getattr(whole, part))


def _settings(written: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in written["model"].items() if key not in ("vocab", "merges")}


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
