"""Streams give whole characters, keep stop strings to themselves, and do not care how ids are cut into calls."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from draftproof.drafting.models.text_stream import TextStream
from draftproof.errors import UsageError


class ByteTokens:
    """One token for each byte, and 256 for a control token."""

    size = 257
    special_ids = frozenset({256})

    def token_bytes(self, token: int) -> bytes | None:
        return bytes([token]) if 0 <= token < 256 else None

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: Sequence[int]) -> str:
        return bytes(token for token in ids if token < 256).decode("utf-8", errors="replace")


def streamed(ids: Sequence[int], stop: Sequence[str] = (), cuts: Sequence[int] = ()) -> tuple[str, TextStream]:
    """The whole text, fed in pieces that end at `cuts`."""
    stream = TextStream(ByteTokens(), stop)
    ends = sorted({*(cut % (len(ids) + 1) for cut in cuts), len(ids)})
    text = "".join(stream.feed(ids[start:end]) for start, end in zip([0, *ends], ends, strict=False))
    return text + stream.finish(), stream


def ended(text: str, stop: Sequence[str]) -> tuple[str, str | None]:
    """The definition, character by character: the text before the first stop string to be completed."""
    for end in range(1, len(text) + 1):
        completed = [each for each in stop if text[:end].endswith(each)]
        if completed:
            longest = max(completed, key=len)
            return text[: end - len(longest)], longest
    return text, None


@given(ids=st.lists(st.integers(0, 256), max_size=40), cuts=st.lists(st.integers(0, 40), max_size=5))
def test_without_stop_strings_the_text_is_what_decoding_gives(ids: list[int], cuts: list[int]) -> None:
    assert streamed(ids, cuts=cuts)[0] == ByteTokens().decode(ids)


@given(
    text=st.text(alphabet="abé\n", max_size=30),
    stop=st.lists(st.text(alphabet="abé\n", min_size=1, max_size=4), max_size=3),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
@example(text="aab", stop=["ab"], cuts=[1, 2])  # a beginning that fails inside of which another begins
@example(text="xab", stop=["b", "ab"], cuts=[])  # completed by the same character: the longer one
@example(text="abab\n", stop=["abab\n\n", "ba"], cuts=[])  # a shorter one inside the beginning of a longer
def test_stop_strings_end_the_text_wherever_tokens_are_cut(text: str, stop: list[str], cuts: list[int]) -> None:
    ids = list(text.encode())
    expected, by = ended(text, stop)
    got, stream = streamed(ids, stop, cuts)
    assert (got, stream.stopped_by) == (expected, by)
    if by is not None:
        assert bytes(ids[: stream.tokens]).decode().endswith(by)
        assert bytes(ids[: stream.tokens]) == (expected + by).encode()


def test_halves_of_characters_wait_for_the_rest() -> None:
    stream = TextStream(ByteTokens())
    first, second, third = "€".encode()
    assert stream.feed([first]) == ""
    assert stream.feed([second]) == ""
    assert stream.feed([third]) == "€"
    assert stream.feed([first]) == ""
    assert stream.finish() == "\ufffd"
    assert stream.finish() == ""


def test_text_is_held_only_while_it_may_begin_a_stop_string() -> None:
    stream = TextStream(ByteTokens(), ["</s>"])
    assert stream.feed(b"2 <") == "2 "
    assert stream.feed(b"/") == ""
    assert stream.feed(b"3 </s") == "</3 "
    assert stream.feed(b"> and more") == ""
    assert stream.stopped_by == "</s>"
    assert stream.tokens == len("2 </3 </s>")
    assert stream.feed(b"!") == ""
    assert stream.finish() == ""


def test_control_tokens_neither_show_nor_break_characters() -> None:
    first, second = "é".encode()
    assert streamed([first, 256, second, 256])[0] == "é"


@pytest.mark.parametrize("stop", ["stop", [""], ["a", ""]])
def test_stop_strings_are_a_sequence_of_texts_that_are_not_empty(stop: Sequence[str]) -> None:
    with pytest.raises(UsageError, match="stop strings"):
        TextStream(ByteTokens(), stop)
