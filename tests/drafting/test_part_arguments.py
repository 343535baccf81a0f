"""Arguments of parts: read off what makes them, the class that a function hands on to included."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Literal

import pytest

from draftproof.drafting.drafters.catalogue import LISTINGS as DRAFTERS
from draftproof.drafting.part_arguments import Listing, make_part
from draftproof.drafting.parts import drafter_of, policy_of, rule_of
from draftproof.drafting.policies.catalogue import LISTINGS as POLICIES
from draftproof.drafting.rules.catalogue import LISTINGS as RULES
from draftproof.errors import DraftproofError, UnknownNameError, UsageError


class _Behind:
    def __init__(
        self,
        given: bytes,
        depth: int = 3,
        *,
        share: float | None = None,
        how: Literal["up", "down"] = "up",
        ids: Mapping[int, int] | None = None,
    ) -> None:
        self.all = (given, depth, share, how, ids)


def _make(folder: str, depth: int = 5, **further: Any) -> _Behind:
    return _Behind(folder.encode(), depth, **further)


PART = Listing("part", "A part.", _make, behind=f"{__name__}:_Behind", remedies={"folder": "Find one."})


@pytest.fixture(autouse=True)
def _loadable(monkeypatch: pytest.MonkeyPatch) -> None:
    import draftproof.drafting.part_arguments as module

    loaded = module._loaded
    monkeypatch.setattr(
        module, "_loaded", lambda make: _Behind if make == f"{__name__}:_Behind" else loaded(make)
    )  # modules of tests cannot be imported by name


def test_what_is_handed_on_is_listed_and_what_the_function_makes_is_not() -> None:
    assert [str(each) for each in PART.arguments] == ["folder", "depth=5", "share=null", "how=up", "ids=null"]
    assert [each.name for each in PART.arguments if each.in_text] == ["folder", "depth", "share", "how"]


def test_good_arguments_make_the_part() -> None:
    made = make_part("thing", [PART], "part", {"folder": "f", "share": 1, "ids": {1: 2}})
    assert made.all == (b"f", 5, 1, "up", {1: 2})


def test_what_is_filled_in_goes_to_what_takes_it_and_cannot_be_asked_for() -> None:
    def make(depth: int = 1, models_folder: str | None = None) -> tuple[int, str | None]:
        return depth, models_folder

    parts = [Listing("taking", "It.", make), Listing("other", "None.", lambda: "made")]
    assert make_part("thing", parts, "taking", {"depth": 2}, filled_in={"models_folder": "here"}) == (2, "here")
    assert make_part("thing", parts, "other", {}, filled_in={"models_folder": "here"}) == "made"
    with pytest.raises(UsageError, match="takes no argument 'models_folder'"):
        make_part("thing", parts, "taking", {"models_folder": "there"}, filled_in={"models_folder": "here"})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        pytest.param({}, "Thing 'part' needs folder. Find one. Its arguments: folder, depth=5", id="missing"),
        pytest.param({"folder": "f", "given": b""}, "takes no argument 'given'", id="made-by-the-function"),
        pytest.param({"folder": "f", "depth": 2.0}, "depth is 2.0, and a whole number is expected", id="float-for-int"),
        pytest.param({"folder": "f", "share": "x"}, "share is x, and a number is expected", id="text-for-float"),
        pytest.param({"folder": "f", "share": float("inf")}, "share is inf", id="infinite"),
        pytest.param({"folder": "f", "how": "left"}, "how is left, and up or down is expected", id="literal"),
        pytest.param({"folder": "f", "ids": "x"}, "ids is x, and a Mapping is expected", id="object"),
        pytest.param({"folder": None}, "folder is null, and text is expected", id="null"),
    ],
)
def test_wrong_arguments_are_usage_errors(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_part("thing", [PART], "part", given)
    assert said in str(caught.value)


def test_unknown_names_say_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"no thing 'prat'.*part"):
        make_part("thing", [PART], "prat", {})


def test_what_part_makes_wrong_is_no_usage_error() -> None:
    """A TypeError of a part's own code is a fault, and is not blamed on the user."""

    def broken(depth: int = 1) -> None:
        raise TypeError("of our own")

    with pytest.raises(TypeError, match="of our own"):
        make_part("thing", [Listing("part", "Broken.", broken)], "part", {"depth": 2})


_PARTS: list[tuple[Callable[[str], Any], Listing]] = [
    *((drafter_of, each) for each in DRAFTERS),
    *((rule_of, each) for each in RULES),
    *((policy_of, each) for each in POLICIES),
]


@pytest.mark.parametrize(("make", "listing"), [pytest.param(*each, id=each[1].name) for each in _PARTS])
@pytest.mark.parametrize("value", ["-1", "0", "1e999", "true", "null", "[]", "{}", "word", "", "9" * 5000])
def test_no_value_of_any_argument_is_a_traceback(make: Callable[[str], Any], listing: Listing, value: str) -> None:
    for argument in listing.arguments:
        with suppress(DraftproofError):
            make(f"{listing.name}:{argument.name}={value}")


def test_an_argument_given_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="max_nodes is given twice"):
        drafter_of("suffix:max_nodes=3,max_nodes=4")
