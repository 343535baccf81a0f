"""Lines: the same ones as `split` finds, whatever the pieces they arrive in; long ones are not held."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.importers.lines import lines
from draftproof.importers.streams import StreamError
from draftproof.rejects import RejectCode

DATA = st.lists(st.sampled_from([b"\n", b"\n", b"a", b"bc", b"\r\n", b"x" * 20]), max_size=40).map(b"".join)


def chunked(data: bytes, size: int):
    return (data[start : start + size] for start in range(0, len(data), size))


@given(data=DATA, size=st.integers(1, 30), limit=st.integers(0, 40))
def test_every_line_comes_once_with_its_number(data, size, limit):
    expected = data.split(b"\n")
    if not expected[-1]:
        expected.pop()
    found = list(lines(chunked(data, size), limit))
    assert [raw.number for raw in found] == list(range(1, len(expected) + 1))
    for raw, line in zip(found, expected, strict=True):
        if len(line) > limit:
            assert raw.problem is RejectCode.TOO_LONG
            assert raw.message.startswith(f"{len(line)} bytes")
            assert line.startswith(raw.data)
        else:
            assert (raw.problem, raw.data) == (None, line)


@given(data=DATA, size=st.integers(1, 30), keep=st.integers(0, 60))
def test_a_broken_stream_is_reported_on_the_line_it_broke_in(data, size, keep):
    def breaking():
        yield from chunked(data[:keep], size)
        raise StreamError(RejectCode.CUT_STREAM, "gone")

    *whole, last = list(lines(breaking(), 1000))
    assert [raw.data for raw in whole] == data[:keep].split(b"\n")[:-1]
    assert (last.problem, last.number) == (RejectCode.CUT_STREAM, len(whole) + 1)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_long_line_is_kept_as_its_beginning_only(size):
    found = list(lines(chunked(b"y" * 100_000 + b"\nz", size), 50_000))
    assert len(found[0].data) <= 1024
    assert (found[0].problem, found[1].data) == (RejectCode.TOO_LONG, b"z")
