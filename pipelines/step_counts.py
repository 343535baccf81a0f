"""What a text cost: sums over its steps, the same for a graph that has just run and for one that is replayed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from draftproof.pipelines.step_state import Counts, Role, Route, Undecided, WrittenStep, WrittenText

PROBES = "glimpse"
"""The policy whose calls are probes of the draft model, and not judgements of a text."""


def counts_of(steps: Sequence[WrittenStep], undecided: Undecided | None) -> Counts:
    lost = list(_lost(steps, undecided))
    routes = list(_routes(steps, undecided))
    probes = sum(route["calls"] for route in routes if route["policy"] == PROBES)
    return {
        "draft_tokens_kept": _tokens(steps, "draft"),
        "draft_tokens_discarded": _tokens(lost, "draft"),
        "target_tokens": _tokens([*steps, *lost], "target"),
        "target_tokens_discarded": _tokens(lost, "target"),
        "draft_calls": sum(text["role"] == "draft" for text in [*steps, *lost]),
        "target_calls": sum(text["role"] == "target" for text in [*steps, *lost]),
        "probe_calls": probes,
        "judge_calls": sum(route["calls"] for route in routes) - probes,
        "escalations": sum(step["route"] is not None and step["route"]["to"] == "target" for step in steps),
    }


def seconds_of(steps: Sequence[WrittenStep], undecided: Undecided | None) -> dict[str, float]:
    """Spent waiting, by what for."""
    texts = [*steps, *_lost(steps, undecided)]
    routes = list(_routes(steps, undecided))
    return {
        "draft": sum(text["seconds"] for text in texts if text["role"] == "draft"),
        "target": sum(text["seconds"] for text in texts if text["role"] == "target"),
        "probe": sum(route["seconds"] for route in routes if route["policy"] == PROBES),
        "judge": sum(route["seconds"] for route in routes if route["policy"] != PROBES),
    }


def _lost(steps: Sequence[WrittenStep], undecided: Undecided | None) -> Iterator[WrittenText]:
    """What was written and is no part of the text."""
    yield from (step["discarded"] for step in steps if step["discarded"] is not None)
    yield from undecided["written"] if undecided else ()


def _routes(steps: Sequence[WrittenStep], undecided: Undecided | None) -> Iterator[Route]:
    yield from (step["route"] for step in steps if step["route"] is not None)
    if undecided and undecided["route"]:
        yield undecided["route"]


def _tokens(texts: Iterable[WrittenText], role: Role) -> int:
    return sum(text["tokens"] for text in texts if text["role"] == role)
