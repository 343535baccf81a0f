"""The answer that a text states."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from draftproof.pipelines.stated_answer import stated_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        pytest.param("The answer is 42.", "42", id="sentence"),
        pytest.param("So the final answer is: 3.5.", "3.5", id="decimal"),
        pytest.param("Answer: **7**\nGood.", "7", id="bold-up-to-the-line"),
        pytest.param("the answer is $x^2$.", "x^2", id="mathematics"),
        pytest.param(r"so \boxed{\frac{1}{2}}.", r"\frac{1}{2}", id="braces-in-a-box"),
        pytest.param(r"The answer is 3. \boxed{4}", "4", id="a-box-before-a-sentence"),
        pytest.param(r"\boxed{1} and \boxed{2}", "2", id="the-last-box"),
        pytest.param(r"\boxed{1 and \boxed{2}", "2", id="a-box-in-an-open-one"),
        pytest.param(r"\boxed{3", None, id="an-open-box"),
        pytest.param("The answer is 1. No: the answer is 2.", "2", id="the-last-sentence"),
        pytest.param("The answer is", None, id="cut-off"),
        pytest.param("I have no answer.", None, id="none"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_what_is_stated(text: str, answer: str | None) -> None:
    assert stated_answer(text) == answer


@pytest.mark.timeout(20)
def test_hostile_braces_take_no_time() -> None:
    assert stated_answer("\\boxed{" * 100_000) is None
    assert stated_answer("{" * 200_000 + "}" * 200_000) is None


@given(st.text(alphabet="{}\\boxed answeris:.$*\n"))
def test_any_text_can_be_read(text: str) -> None:
    found = stated_answer(text)
    assert found is None or (found and found in text)
