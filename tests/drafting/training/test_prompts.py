"""Prompts are read from files of several shapes; a line that holds none is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from draftproof.drafting.training.prompts import BUILT_IN, MAX_CHARACTERS, encode_prompts, read_prompts
from draftproof.errors import InputError


def test_a_text_file_has_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("What is 2 + 2?\n\n  Name a river. \n")
    assert read_prompts(file) == ["What is 2 + 2?", "Name a river."]


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": "x y", "text": "other"}',
        '{"question": "x y", "answer": "z"}',
        '{"turns": ["x y", "later"]}',
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "x y"}]}',
    ],
)
def test_json_lines_may_have_any_usual_field(line: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(line + "\n")
    assert read_prompts(file) == ["x y"]


def test_files_may_be_gzipped_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl.gz"
    whole = gzip.compress(b'{"prompt": "x y"}\n' * 50)
    file.write_bytes(whole)
    assert read_prompts(file) == ["x y"] * 50
    for damaged in (whole[:30], b"no gzip"):
        file.write_bytes(damaged)
        with pytest.raises(InputError, match=r"prompts\.jsonl\.gz cannot be read"):
            read_prompts(file)


@pytest.mark.parametrize(
    "line", ["{", "[]", '"text"', '{"answer": "z"}', '{"prompt": " "}', '{"turns": []}', '{"messages": [3]}']
)
def test_a_line_without_a_prompt_is_named(line: str, tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line + "\n")
    with pytest.raises(InputError, match=r"prompts\.jsonl:2: "):
        read_prompts(file)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match="no prompts"):
        read_prompts(tmp_path / "empty.txt")
    (tmp_path / "latin.txt").write_bytes("Größe".encode("latin-1"))
    with pytest.raises(InputError, match="UTF-8"):
        read_prompts(tmp_path / "latin.txt")


def test_a_long_prompt_is_cut_and_one_without_room_left_out(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a" * (MAX_CHARACTERS + 5) + "\nshort\n")
    assert len(read_prompts(file)[0]) == MAX_CHARACTERS
    assert encode_prompts(["aaaa", "bb", ""], lambda text: [1] * len(text), room=3) == ((1, 1),)
    with pytest.raises(InputError, match="between 1 and 3 tokens"):
        encode_prompts(["aaaa"], lambda text: [1] * len(text), room=3)


def test_the_built_in_prompts_are_many_and_different() -> None:
    assert len(set(BUILT_IN)) == len(BUILT_IN) == 48
