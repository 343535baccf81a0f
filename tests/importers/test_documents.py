"""JSON documents are read as streams: the same records as `json` finds, whatever the pieces they arrive in."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.importers.document import records

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet='ab"\\[]{},é\n', max_size=8),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(alphabet='s"\\[', max_size=3), children, max_size=4)
    ),
    max_leaves=12,
)


def chunked(data: bytes, size: int):
    return (data[start : start + size] for start in range(0, len(data), size))


def read(data: bytes, size: int = 1 << 16, limit: int = 1 << 20, sample_limit: int = 1 << 20):
    return list(records(chunked(data, size), limit, sample_limit))


@given(values=st.lists(JSON, max_size=6), size=st.integers(1, 40), indent=st.sampled_from([None, 1]))
def test_the_elements_of_an_array(values, size, indent):
    data = json.dumps(values, indent=indent).encode()
    found = read(data, size)
    assert [json.loads(raw.data) for raw in found] == values
    assert [raw.number for raw in found] == list(range(1, len(values) + 1))


@given(
    values=st.lists(st.dictionaries(st.text(max_size=3), JSON, max_size=4), max_size=5),
    size=st.integers(1, 40),
    indent=st.sampled_from([None, 2]),
)
def test_objects_one_after_the_other(values, size, indent):
    data = "\n".join(json.dumps(value, indent=indent) for value in values).encode()
    assert [json.loads(raw.data) for raw in read(data, size)] == values


@given(samples=st.lists(JSON, max_size=5), size=st.integers(1, 40), indent=st.sampled_from([None, 2]))
def test_the_samples_of_a_log(samples, size, indent):
    log = {
        "version": 2,
        "eval": {"dataset": {"samples": 3, "ids": [1]}},
        "samples": samples,
        "reductions": [{"samples": [1]}],
    }
    data = json.dumps(log, indent=indent).encode()
    assert [json.loads(raw.data) for raw in read(data, size)] == samples


def test_samples_of_something_else_stay_in_their_record():
    value = {"problem": "p", "samples": [1, 2]}
    assert [json.loads(raw.data) for raw in read(json.dumps(value).encode(), 3)] == [value]


@given(
    data=st.binary(max_size=80) | st.text(alphabet='[]{}",\\: a1', max_size=80).map(str.encode), size=st.integers(1, 9)
)
def test_any_bytes_are_survived_and_numbered(data, size):
    found = read(data, size)
    assert [raw.number for raw in found] == list(range(1, len(found) + 1))
    rest = data.strip(b"[], \t\n\r\x0b\x0c")
    assert found or not rest, "bytes that say something must come back as something"


@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_a_record_beyond_the_limit_is_passed_over(size):
    data = b'[{"a": 1}, {"a": "' + b"x" * 5000 + b'"}, {"a": 2}]'
    found = read(data, size, limit=1000)
    assert [raw.problem for raw in found] == [None, "too_long", None]
    assert "5,01" in found[1].message
    log = b'{"version": 2, "eval": {}, "samples": ' + data + b"}"
    assert [raw.problem for raw in read(log, size, limit=1000, sample_limit=9000)] == [None] * 3


@pytest.mark.parametrize(
    "data", [b'[{"a": 1}, {"a"', b'[{"a": 1}, ', b'[{"a": 1}, "x', b'{"version": 2, "eval": {}, "samples": [{}, ']
)
def test_a_document_that_ends_early_says_so(data):
    found = read(data, 5)
    assert [raw.problem for raw in found] == [None, "cut_stream"]


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":[1],' * 1 + b'"b":[1],' * 100_000 + b'"c":1}',
        b'{"samples":[1],' + b'"samples":[1],' * 100_000 + b'"c":1}',
        b'{"a":{"b":[' + b"[1]," * 200_000 + b"1]}}",
        b"[" * 300_000,
        b"]" * 300_000,
        b'["' + b"\\\\" * 300_000 + b'"]',
        b"x[]" * 100_000,
    ],
    ids=["many-arrays", "many-samples", "deep-arrays", "open", "close", "escapes", "garbage"],
)
@pytest.mark.parametrize("size", [1 << 8, 1 << 20])
def test_hostile_documents_take_linear_time(data, size):
    begin = time.process_time()
    read(data, size, limit=16 << 20)
    assert time.process_time() - begin < 3


def test_a_json_file_of_json_lines_keeps_its_line_numbers(imported, plain):
    found = imported(plain + b"{\n" + plain, "lines.json")
    assert (found.lines_read, found.codes) == ([1, 3], [(2, "invalid_json")])


def test_arrays_and_pretty_printed_objects_are_read(imported):
    record = {"problem": "p", "steps": ["a, ]} b"]}
    assert imported(json.dumps([record, record, 5]).encode(), "a.json").codes == [(3, "not_an_object")]
    assert len(imported(json.dumps([record, record], indent=2).encode(), "a.jsn").traces) == 2
    pretty = imported((json.dumps(record, indent=2) + "\n").encode() * 2, "p.json")
    assert (pretty.lines_read, pretty.codes) == ([1, 2], [])
    assert imported(b"[]", "e.json").codes == [(1, "empty_file")]


def test_a_jsonl_file_is_never_taken_for_a_document(imported, plain):
    found = imported(b"[1, 2\n" + plain * 2)
    assert (found.lines_read, found.codes) == ([2, 3], [(1, "invalid_json")])
