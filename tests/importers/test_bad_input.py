"""Every kind of bad input has a code, a line number and no power over the lines around it."""

from __future__ import annotations

import gzip
import json
import os
import random
import sys
import zipfile
from pathlib import Path

import pytest
import zstandard

from draftproof.errors import InputError, MissingExtraError
from draftproof.importers import FileRefusedError, Progress, formats, read_traces
from draftproof.rejects import RejectCode
from draftproof.segment import segmentation_name, strategies

GOOD = b'{"problem": "p", "steps": ["a", "b"]}\n'


def with_field(value: bytes) -> bytes:
    return b'{"problem": "p", "steps": ["a"], "x": ' + value + b"}\n"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        pytest.param(b"{", "invalid_json", id="cut-object"),
        pytest.param(b'{"problem": "p", "steps": ["a"]} {}', "invalid_json", id="two-values"),
        pytest.param(b"{'problem': 'p'}", "invalid_json", id="python-quotes"),
        pytest.param(b'{"problem": "a\tb", "steps": ["a"]}', "invalid_json", id="raw-tab"),
        pytest.param(b'\xef\xbb\xbf{"problem": "p", "steps": ["a"]}', "invalid_json", id="mark-inside-the-file"),
        pytest.param(b'{"problem": "p", "problem": "q", "steps": ["a"]}', "duplicate_key", id="duplicate-key"),
        pytest.param(with_field(b'{"a": 1, "a": 1}'), "duplicate_key", id="nested-duplicate-key"),
        pytest.param(with_field(b"NaN"), "not_finite", id="nan"),
        pytest.param(with_field(b"-Infinity"), "not_finite", id="infinity"),
        pytest.param(with_field(b"1e999"), "number_too_large", id="overflowing-float"),
        pytest.param(with_field(b"9" * 5000), "number_too_large", id="integer-of-5000-digits"),
        pytest.param(b'{"problem": "p\\u0000", "steps": ["a"]}', "nul_character", id="escaped-nul"),
        pytest.param(b'{"problem": "p\x00", "steps": ["a"]}', "nul_character", id="raw-nul"),
        pytest.param(b'{"problem": "p\\ud800", "steps": ["a"]}', "lone_surrogate", id="lone-surrogate"),
        pytest.param(b'{"problem": "p", "steps": ["a"], "\\uDFFF": 1}', "lone_surrogate", id="surrogate-in-a-key"),
        pytest.param(b"[" * 10**6, "too_deep", id="a-million-brackets"),
        pytest.param(b'{"a":' * 10**5, "too_deep", id="a-hundred-thousand-objects"),
        pytest.param(with_field(b"[" * 200 + b"]" * 200), "too_deep", id="deep-but-parsable"),
        pytest.param(with_field(b"[" + b"[]," * 1_000_000 + b"0]"), "too_complex", id="a-million-lists"),
        pytest.param(b'{"problem": "p\xff", "steps": ["a"]}', "invalid_utf8", id="invalid-utf8"),
        pytest.param(b'{"problem": "\xed\xa0\x80", "steps": ["a"]}', "invalid_utf8", id="encoded-surrogate"),
        pytest.param(b"null", "not_an_object", id="null"),
        pytest.param(b"[1]", "not_an_object", id="array"),
        pytest.param(b'{"problem": "p", "steps": []}', "empty_steps", id="no-steps"),
        pytest.param(b'{"problem": "p", "steps": ["", " "]}', "empty_steps", id="only-blank-steps"),
        pytest.param(b'{"problem": "p", "steps": ["a", ""]}', "empty_step", id="blank-step"),
        pytest.param(
            json.dumps({"problem": "p", "steps": ["a"] * 10_001}).encode(), "too_many_steps", id="10001-steps"
        ),
    ],
)
def test_a_bad_line_is_rejected_by_its_number_and_its_neighbours_are_read(imported, line, code):
    found = imported(GOOD + line.rstrip(b"\n") + b"\n" + GOOD)
    assert found.codes == [(2, code)]
    assert found.lines_read == [1, 3]
    reject = found.rejects[0]
    assert len(reject.excerpt) <= 161
    assert reject.excerpt.isprintable()
    assert len(reject.message) < 400


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(with_field(b"[" * 120 + b"]" * 120), id="nested-as-deep-as-allowed"),
        pytest.param(b'{"problem": "\\ud83d\\ude00", "steps": ["a"]}', id="a-whole-surrogate-pair"),
        pytest.param(with_field(b'"[[[[[[' + b"[" * 500 + b'"'), id="brackets-in-a-string"),
        pytest.param(json.dumps({"problem": "p", "steps": ["a"] * 10_000}).encode(), id="10000-steps"),
        pytest.param(GOOD.rstrip() + b"\r", id="carriage-return"),
        pytest.param(b"   " + GOOD.rstrip() + b"  ", id="spaces-around"),
        pytest.param(with_field(b'"NaN"'), id="nan-in-a-string"),
    ],
)
def test_what_only_looks_bad_is_read(imported, line):
    found = imported(line.rstrip(b"\n") + b"\n")
    assert found.codes == []
    assert len(found.traces) == 1


def test_an_integer_without_a_canonical_form_is_kept_as_its_digits(imported):
    found = imported(with_field(b"[9007199254740991, 9007199254740992, -99999999999999999999]"))
    assert found.traces[0].meta["x"] == [9007199254740991, "9007199254740992", "-99999999999999999999"]


def test_a_byte_order_mark_and_crlf_are_harmless(imported):
    found = imported(b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n") + b"\r\n" + GOOD.rstrip(b"\n"))
    assert (found.codes, found.lines_read, found.progress.blank) == ([], [1, 3], 1)


@pytest.mark.parametrize("data", [b"", b"\n\n", b"\xef\xbb\xbf", gzip.compress(b""), zstandard.compress(b"")])
def test_an_empty_file_is_reported(imported, data):
    assert [code for _line, code in imported(data).codes] == ["empty_file"]


def test_without_a_rejects_sink_the_first_bad_line_raises(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(GOOD + b"{\n")
    reading = read_traces(path)
    assert next(reading).problem == "p"
    with pytest.raises(InputError, match=r"bad\.jsonl, line 2: .*invalid_json"):
        next(reading)


def test_a_fault_of_an_importer_is_told_apart_from_bad_data(imported, monkeypatch):
    from draftproof.importers.plain import PlainImporter

    def broken(self, record, *, source):
        raise KeyError("unforeseen")

    monkeypatch.setattr(PlainImporter, "parse", broken)
    assert imported(GOOD).codes == [(1, "importer_failed")]


def test_a_row_gives_all_of_its_traces_or_none(imported):
    row = {"question": "q", "ground_truth": "x\nA: 1", "m1": {"solution": "a\nA: 1"}, "m2": {"solution": ""}}
    found = imported(json.dumps(row).encode())
    assert (found.codes, found.traces) == ([(1, "empty_text")], [])


@pytest.mark.parametrize(
    ("data", "name", "code"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n", "a.jsonl", "git_lfs_pointer"),
        (b"PK\x03\x04" + b"z" * 60, "a.eval", "corrupt_archive"),
        ("{}".encode("utf-16"), "a.jsonl", "unsupported_file"),
        (b"BZh91AY", "a.jsonl.bz2", "unsupported_file"),
        (b"PAR1zzzz", "a.parquet", "unsupported_file"),
        (b"\x80\x04\x95zzzz", "a.pickle", "unsupported_file"),
    ],
)
def test_a_file_that_is_something_else_is_refused_with_a_remedy(imported, data, name, code):
    with pytest.raises(FileRefusedError) as refused:
        imported(data, name)
    assert refused.value.code == code
    assert refused.value.remedy


def test_missing_files_and_directories_are_refused_at_once(tmp_path):
    for path, code in ((tmp_path / "none.jsonl", "file_missing"), (tmp_path, "is_a_directory")):
        with pytest.raises(FileRefusedError) as refused:
            read_traces(path)
        assert refused.value.code == code
    with pytest.raises(FileRefusedError, match="Cannot look at"):
        read_traces("bad\x00name")


def many_lines(count: int = 4000) -> bytes:
    draw = random.Random(7)
    return b"".join(b'{"problem": "p%d", "steps": ["%x"]}\n' % (i, draw.getrandbits(200)) for i in range(count))


COMPRESSED = {
    "gzip": gzip.compress(many_lines()),
    "gzip-two-members": gzip.compress(many_lines(1000)) + gzip.compress(many_lines(3000)) + b"\x00" * 512,
    "zstd": zstandard.compress(many_lines()),
    "zstd-two-frames": zstandard.compress(many_lines(1000)) + zstandard.compress(many_lines(3000)),
}


@pytest.mark.parametrize("kind", COMPRESSED)
def test_compressed_files_are_read_whatever_their_name(imported, kind):
    found = imported(COMPRESSED[kind])
    assert (len(found.traces), found.codes) == (4000, [])
    assert found.progress.bytes_read == found.progress.bytes_total == len(COMPRESSED[kind])


@pytest.mark.parametrize("kind", COMPRESSED)
@pytest.mark.parametrize("share", [0.999, 0.7, 0.3])
def test_a_cut_stream_delivers_what_came_before_and_reports_the_cut(imported, kind, share):
    data = COMPRESSED[kind].rstrip(b"\x00")
    found = imported(data[: int(len(data) * share)])
    assert [code for _line, code in found.codes] == ["cut_stream"]
    assert found.lines_read == list(range(1, found.codes[0][0]))
    if kind == "gzip":
        assert len(found.traces) > 4000 * share * 0.9


@pytest.mark.parametrize(("kind", "junk"), [("gzip", b"junk"), ("zstd", b"junk")])
def test_junk_behind_the_compressed_data_is_reported(imported, kind, junk):
    found = imported(COMPRESSED[kind] + junk)
    assert found.codes == [(4001, "corrupt_stream")]
    assert len(found.traces) == 4000


def test_a_damaged_gzip_file_reports_its_checksum(imported):
    data = bytearray(gzip.compress(many_lines(), compresslevel=0))
    data[1000:1001] = bytes([data[1000] ^ 1])
    found = imported(bytes(data))
    assert "corrupt_stream" in [code for _line, code in found.codes]


def test_zstd_without_its_package_names_the_extra(imported, monkeypatch):
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'draftproof\[zstd\]'"):
        imported(COMPRESSED["zstd"])


def test_a_long_line_is_passed_over(imported):
    long = b'{"problem": "' + b"x" * 3_000_000 + b'", "steps": ["a"]}\n'
    found = imported(GOOD + long + GOOD, max_line_bytes=1_000_000)
    assert (found.codes, found.lines_read) == ([(2, "too_long")], [1, 3])
    assert found.rejects[0].excerpt.startswith('{"problem": "xxx')
    assert imported(long, max_line_bytes=len(long) - 1).codes == []
    assert imported(long, max_line_bytes=len(long) - 2).codes == [(1, "too_long")]
    assert imported(long.rstrip(b"\n"), max_line_bytes=len(long) - 2).codes == [(1, "too_long")]


@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_a_compression_bomb_is_one_long_line(imported, compress):
    bomb = compress(b"x" * 200_000_000) if compress is zstandard.compress else gzip.compress(b"x" * 50_000_000, 9)
    assert len(bomb) < 100_000
    found = imported(bomb, max_line_bytes=1 << 20)
    assert found.codes == [(1, "too_long")]


def test_limit_stops_early_and_counts_traces(imported):
    found = imported(GOOD * 10, limit=3)
    assert found.lines_read == [1, 2, 3]
    assert imported(b"{\n", limit=0).codes == []


def test_progress_is_of_the_stored_bytes(tmp_path):
    path = tmp_path / "many.jsonl.gz"
    path.write_bytes(gzip.compress(many_lines(40_000)))
    progress, shares = Progress(), []
    for index, _trace in enumerate(read_traces(path, progress=progress)):
        if index % 1000 == 0:
            shares.append(progress.bytes_read / progress.bytes_total)
    assert shares == sorted(shares)
    assert shares[0] < 0.7
    assert progress.bytes_read == path.stat().st_size


def test_standard_input_and_pipes_are_read(monkeypatch, tmp_path):
    for data in (GOOD * 3, gzip.compress(GOOD * 3)):
        receiving, sending = os.pipe()
        os.write(sending, data)
        os.close(sending)
        with open(receiving, encoding="utf-8") as stdin:  # noqa: PTH123  a descriptor
            monkeypatch.setattr(sys, "stdin", stdin)
            progress = Progress()
            assert [trace.source.line for trace in read_traces("-", progress=progress)] == [1, 2, 3]
            assert (progress.bytes_total, progress.bytes_read) == (None, len(data))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_archives_of_any_method_are_read_and_the_last_of_a_name_wins(tmp_path, method, imported):
    def sample(answer):
        choice = {"message": {"role": "assistant", "content": answer}}
        return json.dumps({"id": 1, "epoch": 1, "input": "q", "target": "t", "output": {"choices": [choice]}})

    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("_journal/start.json", "{}")
        archive.writestr("samples/1_epoch_1.json", sample("first"))
        archive.writestr("samples/2_epoch_1.json", b"{")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("samples/1_epoch_1.json", sample("last"))
    found = imported(path.read_bytes(), "copy.eval")
    assert ([trace.steps[0].text for trace in found.traces], found.lines_read) == (["last"], [4])
    assert found.codes == [(3, "invalid_json")]


def test_an_archive_member_that_swells_is_passed_over(tmp_path, imported):
    path = tmp_path / "bomb.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("samples/1_epoch_1.json", b" " * 80_000_000)
    data = path.read_bytes()
    assert imported(data, "bomb.eval").codes == [(1, "too_long")]
    # The sizes that an archive claims are not believed.
    lie = data.replace((80_000_000).to_bytes(4, "little"), (16).to_bytes(4, "little"))
    assert lie != data
    assert imported(lie, "lie.eval").codes == [(1, "corrupt_stream")]


def test_a_damaged_or_encrypted_member_is_rejected_alone(tmp_path, imported):
    good = [b'{"id": %d, "epoch": 1, "input": "q", "output": {"completion": "a"}}' % number for number in (1, 2)]
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for number, data in enumerate(good):
            archive.writestr(f"samples/{number}.json", data)
    data = path.read_bytes()
    assert imported(data.replace(good[0], good[0].replace(b'"q"', b'"r"'), 1), "a.eval").codes == [
        (1, "corrupt_stream")
    ]
    flagged = bytearray(data)
    for at in (data.index(b"PK\x03\x04") + 6, data.index(b"PK\x01\x02") + 8):
        flagged[at] |= 1
    found = imported(bytes(flagged), "b.eval")
    assert (found.codes, len(found.traces)) == ([(1, "corrupt_stream")], 1)


def test_an_archive_that_is_no_log_is_refused(tmp_path, imported):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.jsonl", GOOD)
    with pytest.raises(FileRefusedError, match="no inspect_ai log"):
        imported(path.read_bytes(), "other.zip")


def test_a_crashed_log_without_samples_is_empty(tmp_path, imported):
    path = tmp_path / "crashed.eval"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_journal/start.json", "{}")
    assert imported(path.read_bytes(), "crashed.eval").codes == [(1, "empty_file")]


def test_every_code_and_format_is_documented():
    page = (Path(__file__).parents[2] / "docs/reference/input-formats.md").read_text(encoding="utf-8")
    for name in [*RejectCode, *(known.name for known in formats())]:
        assert f"| `{name}` |" in page, name
    for option in {option for known in formats() for option in known.options}:
        assert f"| `{option}` |" in page, option
    for rule in strategies():
        assert f"| `{segmentation_name(rule)}` |" in page, rule
