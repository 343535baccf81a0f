"""What the importers' tests share: reading bytes as a file, with the count of its lines checked every time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from draftproof.importers import Progress, read_traces
from draftproof.rejects import Reject, RejectsList
from draftproof.trace import Trace

FIXTURES = Path(__file__).parents[1] / "fixtures" / "traces"
PLAIN = b'{"problem": "p", "steps": ["a", "b"]}\n'


class Imported(NamedTuple):
    traces: list[Trace]
    rejects: list[Reject]
    progress: Progress

    @property
    def codes(self) -> list[tuple[int, str]]:
        return [(reject.line, reject.code.value) for reject in self.rejects]

    @property
    def lines_read(self) -> list[int]:
        return [trace.source.line for trace in self.traces if trace.source is not None]


def import_file(path: Path | str, format: str = "auto", **options: Any) -> Imported:
    rejects, progress = RejectsList(), Progress()
    traces = list(read_traces(path, format, rejects=rejects, progress=progress, **options))
    assert progress.lines == progress.read + progress.skipped + progress.blank + progress.rejected
    assert progress.rejected == len(rejects)
    assert progress.traces == len(traces)
    return Imported(traces, rejects, progress)


@pytest.fixture
def imported(tmp_path: Path) -> Callable[..., Imported]:
    """Import bytes as if they were a file of the given name."""

    def write_and_import(data: bytes, name: str = "traces.jsonl", format: str = "auto", **options: Any) -> Imported:
        path = tmp_path / name
        path.write_bytes(data)
        return import_file(path, format, **options)

    return write_and_import


@pytest.fixture
def fixture_file() -> Callable[..., Imported]:
    """Import one of the committed files of real rows."""
    return lambda name, format="auto", **options: import_file(FIXTURES / name, format, **options)


@pytest.fixture
def plain() -> bytes:
    """One line that every test agrees is good."""
    return PLAIN
