"""Where a text ends: behind the first stop string, whatever tokens it comes in."""

from __future__ import annotations

import pytest

from draftproof.drafting.language_models.written_text import WrittenText
from draftproof.drafting.models.load import LoadedModel
from draftproof.language_model import StopCause

END = frozenset({264})


def written(loaded: LoadedModel, tokens: list[str | bytes | int], *stop: str, at_once: bool = False) -> WrittenText:
    """A text from tokens by what they stand for: text that is one token, a byte, or an id."""
    vocabulary = loaded.vocabulary
    by_bytes = {vocabulary.token_bytes(token): token for token in range(vocabulary.size)}
    ids = [t if isinstance(t, int) else by_bytes[t.encode() if isinstance(t, str) else t] for t in tokens]
    text = WrittenText(vocabulary, stop, END)
    if at_once:
        text.add(ids)
    else:
        for token in ids:
            text.add([token])
    return text


@pytest.mark.parametrize("at_once", [False, True], ids=["token by token", "one round"])
def test_the_text_ends_behind_the_first_stop_string(stepper: LoadedModel, at_once: bool) -> None:
    text = written(stepper, ["a", ".", "\n", "\n", "b"], "\n\n", at_once=at_once)
    assert (text.text, text.tokens, text.cause, text.stopped_by) == ("a.\n\n", 4, StopCause.STOP, "\n\n")
    assert len(text.ids) == 4


@pytest.mark.parametrize("at_once", [False, True], ids=["token by token", "one round"])
def test_a_token_may_hold_more_than_the_stop_string_before_it(stepper: LoadedModel, at_once: bool) -> None:
    text = written(stepper, ["ab", ".\n\n", "b"], "\n\n", at_once=at_once)
    assert (text.text, text.tokens) == ("ab.\n\n", 2)
    assert stepper.vocabulary.decode(text.ids) == "ab.\n\n"


def test_line_ends_behind_the_separator_belong_to_it(stepper: LoadedModel) -> None:
    text = written(stepper, ["a", "\n\n\n", "b"], "\n\n")
    assert (text.text, text.tokens, text.stopped_by) == ("a\n\n\n", 2, "\n\n")
    assert stepper.vocabulary.decode(text.ids) == "a\n\n\n"


def test_a_token_that_goes_on_behind_the_separator_is_cut_and_has_no_ids(stepper: LoadedModel) -> None:
    text = written(stepper, ["a", "\n\nS", "b"], "\n\n")
    assert (text.text, text.tokens, text.cause, text.ids) == ("a\n\n", 2, StopCause.STOP, ())


def test_the_stop_string_that_is_complete_first_counts(stepper: LoadedModel) -> None:
    assert written(stepper, ["b", "2", "."], "2.", "b2").stopped_by == "b2"
    assert written(stepper, ["b", "2", "."], "2", "b2").stopped_by == "b2"  # of two that end together, the longer
    assert written(stepper, ["12", "."], "2", "1").text == "1"  # inside of one token


def test_stop_strings_are_found_where_they_begin_again(stepper: LoadedModel) -> None:
    assert written(stepper, ["b", "b", "2"], "b2").text == "bb2"


def test_the_end_of_the_answer_is_no_text(stepper: LoadedModel) -> None:
    text = written(stepper, ["a", "b", 264, "."], ".")
    assert (text.text, text.tokens, text.cause, len(text.ids)) == ("ab", 3, StopCause.END, 2)


def test_characters_of_several_tokens_are_put_together(stepper: LoadedModel) -> None:
    text = written(stepper, [b"\xe2", b"\x82", b"\xac", "."], "€")
    assert (text.text, text.tokens, len(text.ids)) == ("€", 3, 3)


def test_half_a_character_at_the_end_has_no_ids(stepper: LoadedModel) -> None:
    text = written(stepper, ["a", b"\xe2", b"\x82"])
    text.finish(StopCause.LENGTH)
    assert (text.text, text.ids) == ("a\ufffd", ())


def test_control_tokens_inside_are_no_text_and_leave_no_ids(stepper: LoadedModel) -> None:
    text = written(stepper, ["a", 265, "b"])
    text.finish(StopCause.LENGTH)
    assert (text.text, text.tokens, text.ids) == ("ab", 3, ())
