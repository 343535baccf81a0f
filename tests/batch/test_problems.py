"""Problems out of files: which fields are read, and what becomes of lines that are none."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from draftproof.batch.problems import Problem, read_problems
from draftproof.batch.solved import same_answer
from draftproof.errors import InputError
from draftproof.importers.streams import FileRefusedError, Progress
from draftproof.rejects import RejectsList


def written(path: Path, *records: Any) -> str:
    path.write_text("".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in records))
    return str(path)


@pytest.mark.parametrize(
    ("record", "text", "id", "answer"),
    [
        pytest.param({"problem": "2+2?", "id": "a", "answer": "4"}, "2+2?", "a", "4", id="all-fields"),
        pytest.param({"question": "2+2?", "id": 7, "answer": 4}, "2+2?", "7", "4", id="numbers-as-text"),
        pytest.param({"prompt": "2+2?", "id": "a", "reference_answer": "4"}, "2+2?", "a", "4", id="other-names"),
        pytest.param({"question": "q", "id": "a", "answer": "1+1=2\n#### 2"}, "q", "a", "2", id="gsm8k"),
        pytest.param({"problem": "p", "id": "a", "answer": "  "}, "p", "a", None, id="a-blank-answer-is-none"),
        pytest.param({"problem": "p", "id": "a", "answer": None}, "p", "a", None, id="null"),
    ],
)
def test_fields(record: dict[str, Any], text: str, id: str, answer: str | None, tmp_path: Path) -> None:
    file = written(tmp_path / "p.jsonl", record)
    assert list(read_problems(file)) == [Problem(text, id, answer, file, 1)]


def test_a_problem_without_a_name_gets_the_same_one_always(tmp_path: Path) -> None:
    first, second, third = read_problems(written(tmp_path / "p.jsonl", *[{"problem": "a"}] * 2, {"problem": "b"}))
    assert first.id == second.id != third.id


def test_lines_are_conserved(tmp_path: Path) -> None:
    progress, rejects = Progress(), RejectsList()
    file = written(tmp_path / "p.jsonl", {"problem": "a"}, "", "{", {"problem": 1}, {"x": 1}, "[]", {"problem": "b"})
    assert [problem.line for problem in read_problems(file, rejects=rejects, progress=progress)] == [1, 7]
    assert progress.lines == progress.read + progress.blank + progress.rejected == 7
    assert [reject.line for reject in rejects] == [3, 4, 5, 6]
    assert "`problem` is missing" in rejects[2].message


def test_without_a_place_for_rejects_the_first_one_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 2"):
        list(read_problems(written(tmp_path / "p.jsonl", {"problem": "a"}, "{")))


def test_an_empty_file_is_a_reject_and_a_missing_one_an_error_at_once(tmp_path: Path) -> None:
    rejects = RejectsList()
    assert list(read_problems(written(tmp_path / "p.jsonl"), rejects=rejects)) == []
    assert [reject.code for reject in rejects] == ["empty_file"]
    with pytest.raises(FileRefusedError):
        read_problems(str(tmp_path / "nowhere"))


def test_compressed_files_are_streamed_as_far_as_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"problem": "a"}\n' * 1000) + b"damaged")
    assert len(list(islice(read_problems(str(path)), 900))) == 900
    assert len(list(read_problems(str(path), limit=1000))) == 1000
    rejects = RejectsList()
    assert len(list(read_problems(str(path), rejects=rejects))) == 1000
    assert [reject.code for reject in rejects] == ["corrupt_stream"]


@pytest.mark.parametrize(
    ("given", "reference", "same"),
    [
        pytest.param("42", "42.0", True, id="by-value"),
        pytest.param("1,200", "$1200", True, id="signs-and-separators"),
        pytest.param("1/3", "0.33", False, id="exactly"),
        pytest.param(r"\text{(B)}", "(b)", True, id="text"),
        pytest.param("x", "y", False, id="other-text"),
        pytest.param(None, "3", False, id="no-answer-is-wrong"),
        pytest.param("3", None, None, id="no-reference-is-no-judgement"),
        pytest.param("$ $", "  ", False, id="nothing-is-not-nothing"),
    ],
)
def test_answers_are_compared(given: str | None, reference: str | None, same: bool | None) -> None:
    assert same_answer(given, reference) is same
