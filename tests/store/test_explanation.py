"""The code on the page about the store runs, and runs again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "verdict-store.md"


def test_the_example_runs_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 1
    for _ in range(2):
        exec(compile(blocks[0], str(PAGE), "exec"), {})
        first, second, third = capsys.readouterr().out.splitlines()
        assert first == "24 = 24 accepted"
        assert second == "made-0-0 0 accept 0 + 417 = 417"
        assert third == "made-0-0 1 accept 1 + 417 = 418"
