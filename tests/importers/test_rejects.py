"""The rejects file: lazy, whole lines only, safe to print."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from draftproof.errors import UsageError
from draftproof.importers import read_traces
from draftproof.rejects import Reject, RejectCode, RejectsFile, excerpt


def reject(line: int = 1, text: str = "x") -> Reject:
    return Reject(file="f.jsonl", line=line, code=RejectCode.INVALID_JSON, message="m", excerpt=text)


def test_the_file_appears_with_the_first_reject_and_is_appended_to(tmp_path):
    path = tmp_path / "run" / "rejects.jsonl"
    with RejectsFile(path) as rejects:
        assert not path.exists()
        rejects.add(reject(1))
        assert len(path.read_text(encoding="utf-8").splitlines()) == 1, "each reject is on disk at once"
        rejects.add(reject(2))
    with RejectsFile(path) as rejects:
        rejects.add(reject(3))
        assert rejects.count == 1
    found = [Reject.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [one.line for one in found] == [1, 2, 3]


def test_a_clean_file_leaves_no_rejects_file(tmp_path, plain):
    path = tmp_path / "traces.jsonl"
    path.write_bytes(plain)
    with RejectsFile(tmp_path / "rejects.jsonl") as rejects:
        assert len(list(read_traces(path, rejects=rejects))) == 1
    assert not (tmp_path / "rejects.jsonl").exists()


def test_several_processes_share_a_file_without_mixing_lines(tmp_path):
    path = tmp_path / "rejects.jsonl"
    program = (
        "import sys; from draftproof.rejects import *\n"
        "with RejectsFile(sys.argv[1]) as f:\n"
        "  for i in range(1, 301): f.add(Reject(file=sys.argv[2], line=i, code='invalid_json', message='m' * 200))\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), str(writer)], env={**os.environ, "PYTHONSAFEPATH": "1"}
        )
        for writer in range(3)
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0, 0]
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert sorted((one["file"], one["line"]) for one in found) == [(str(w), i) for w in range(3) for i in range(1, 301)]


def test_a_rejects_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for path in (tmp_path, tmp_path / "file" / "rejects.jsonl"):
        with pytest.raises(UsageError, match="Cannot write the rejects file"):
            RejectsFile(path).add(reject())


def test_a_line_written_in_part_is_an_error(tmp_path, monkeypatch):
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:5]))
    with RejectsFile(tmp_path / "r.jsonl") as rejects, pytest.raises(UsageError, match="only a part"):
        rejects.add(reject())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full here")  # noqa: PTH110  a device
def test_a_full_disk_is_an_error():
    with RejectsFile("/dev/full") as rejects, pytest.raises(UsageError, match="Cannot write the rejects file"):
        rejects.add(reject())


@pytest.mark.parametrize(
    "data",
    [
        b"\x1b[31mred\x1b[0m",
        b"\x00\x07\r\n\t",
        "\u202egnp.exe\u2066".encode(),
        b"\xff\xfe\xed\xa0\x80",
        "a" * 9999,
        b"b" * 9999,
    ],
)
def test_an_excerpt_is_short_and_cannot_command_a_terminal(data):
    shown = excerpt(data)
    assert shown.isprintable()
    assert len(shown) <= 161


def test_an_excerpt_of_ordinary_text_is_that_text():
    assert excerpt('{"problem": "é∑"}'.encode()) == '{"problem": "é∑"}'
