"""The folder of a run: what each problem came to, and what a router learns from, as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from draftproof.errors import UsageError

RESULTS = "results.jsonl"
ROWS = "rows.jsonl"


class RunFolder:
    """Files that are begun anew by each run: running again writes all of it again, from the store where it is known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._files: dict[str, IO[str]] = {}
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be a folder for results: {error.strerror}.", remedy="Name another with --out."
            ) from error

    def add(self, name: str, value: Mapping[str, Any]) -> None:
        """A line of the file `name`."""
        if name not in self._files:
            self._files[name] = (self.path / name).open("w", encoding="utf-8")
        self._files[name].write(json.dumps(value, ensure_ascii=False) + "\n")

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
