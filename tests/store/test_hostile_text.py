"""Whatever a model or a crash may write goes in, comes back as it was, and runs nowhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect

from draftproof.errors import ContractError
from draftproof.store.inserts import insert_new
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Pair
from draftproof.store.tables import metadata
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import made_traces, made_verdict, step_pair
from draftproof.subject import Granularity, SubjectKey
from draftproof.trace import Source, Span, Step, StepLabel, Trace
from draftproof.verdict import (
    Cost,
    EquationEvidence,
    ErrorEvidence,
    FeatureEvidence,
    Guarantee,
    Outcome,
    Proposition,
    Verdict,
)

TEXTS = {
    "injection": "'; DROP TABLE verdicts; --",
    "injection-2": '"); DELETE FROM traces WHERE ("1"="1',
    "placeholders": "%s %(x)s ? :name $1 {0} {} \\",
    "copy-end": "\\.\n\\N\t\\\\",
    "nul": "a\0b",
    "nul-escape": "a\\u0000b",
    "controls": "".join(map(chr, range(1, 32))) + "\x7f\x85",
    "emoji": "👩🏽‍🔬🦆 \U0010ffff",
    "right-to-left": "\u202eabc\u202c שלום",
    "combining": "e\u0301 \ufeff \ufffe \uffff",
    "surrogate": "cut in the middle \ud83d",
    "line-ends": "a\r\nb\rc\u2028d",
    "null-word": "NULL",
    "empty": "",
    "megabyte": "9" * 2**20 + "\n",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_hostile_text_comes_back_as_it_was(store: VerdictStore, text: str) -> None:
    run = store.begin_run(text)
    verdict = made_verdict(
        step_pair(made_traces(1)[0]),
        Outcome.ERROR,
        reason=text,
        evidence=(ErrorEvidence(type=text[:100], message=text),),
        raw={"said": [text], text[:100]: 1},
    )
    store.add([verdict], run.id)
    (row,) = store.iter_verdicts(VerdictFilter(reason=text))
    assert row.verdict == verdict
    assert row.intact
    overridden = store.override(row.id, Outcome.REJECT, author=f"A{text}", note=f"B{text}")
    assert overridden.verdict.raw["author"] == f"A{text}"
    assert [each.id for each in store.iter_verdicts(VerdictFilter(author=f"A{text}"))] == [overridden.id]
    with store._database.reading() as connection:
        assert set(metadata.tables) <= set(inspect(connection).get_table_names())


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "surrogate"])
def test_a_trace_of_hostile_text_comes_back(store: VerdictStore, name: str) -> None:
    text = TEXTS[name]
    trace = Trace(
        id=text,
        problem=text,
        steps=(Step(text=text), Step(text="")),
        segmentation=text[:100],
        final_answer=text,
        generator=text,
        source=Source(format=text[:100], file=text[:100], line=1),
        meta={text[:100]: text},
    )
    run = store.begin_run("test")
    store.add_traces(run.id, [trace])
    assert list(store.run_traces(run.id)) == [trace]
    if text:
        assert store.get_trace(text).trace == trace


def test_names_cut_in_the_middle_come_back_too(store: VerdictStore) -> None:
    """pydantic would write a lone surrogate in the key of a dictionary as U+FFFD, and raise nothing."""
    cut = "cut \ud83d"
    features = FeatureEvidence(values={cut: 0.5, "\ufffd": 1.5})
    (trace,) = made_traces(1, meta={cut: None})
    verdict = made_verdict(step_pair(trace), raw={cut: 1}, evidence=(features,))
    run = store.begin_run("test")
    store.add_traces(run.id, [trace])
    store.add([verdict], run.id)
    assert [row.verdict for row in store.iter_verdicts()] == [verdict]
    assert list(store.run_traces(run.id)) == [trace]


@pytest.mark.parametrize("field", ["trace_digest", "verifier"])
@pytest.mark.parametrize("text", ["a\0b", "a\ud800b", "a" * 1000], ids=["nul", "surrogate", "endless"])
def test_a_key_that_a_database_would_change_is_refused(store: VerdictStore, field: str, text: str) -> None:
    subject = SubjectKey(
        trace_digest=text if field == "trace_digest" else "sha256:00", granularity=Granularity.STEP, position=0
    )
    verdict = made_verdict(Pair(subject, text if field == "verifier" else "arithmetic@1#00"))
    run = store.begin_run("test")
    with pytest.raises(ContractError, match="a key may not"):
        store.add([verdict], run.id)


def test_a_key_may_hold_any_other_text(store: VerdictStore) -> None:
    run = store.begin_run("test")
    keys = ["été@1#00", "e\u0301te\u0301@1#00", "ÉTÉ@1#00", "été @1#00", "%@1#00", "'@1#00"]
    pair = step_pair(made_traces(1)[0])
    store.add([made_verdict(Pair(pair.subject, key)) for key in keys], run.id)
    assert [row.verifier for row in store.iter_verdicts()] == keys
    for key in keys:
        assert [r.verifier for r in store.iter_verdicts(VerdictFilter(verifier=key.partition("@")[0]))] == [key]


texts = st.text(st.characters(), max_size=30)  # surrogates and U+0000 among them
plain = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
numbers = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | numbers | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
equations = st.builds(
    EquationEvidence,
    span=st.builds(Span, start=st.integers(0, 2**53), end=st.integers(0, 2**53)),
    text=texts,
    relation=st.sampled_from(["=", "≠", "<", "≤", "≈"]),
    left=texts,
    right=texts,
    left_value=st.none() | texts,
    right_value=st.none() | texts,
    hypotheses=st.lists(texts, max_size=2).map(tuple),
    holds=st.none() | st.booleans(),
    reason=texts,
)
errors = st.builds(ErrorEvidence, type=texts, message=texts, attempts=st.integers(1, 9))
costs = st.builds(
    Cost,
    wall_seconds=st.floats(0, 1e300, allow_nan=False),
    calls=st.integers(0, 2**63 - 1),
    prompt_tokens=st.integers(0, 2**63 - 1),
    output_tokens=st.integers(0, 2**63 - 1),
)
judged = st.builds(
    Verdict,
    subject=st.builds(
        SubjectKey,
        trace_digest=plain.filter(lambda text: "\0" not in text),
        granularity=st.sampled_from(Granularity),
        position=st.integers(0, 2**31 - 1),
    ),
    verifier=plain.filter(lambda text: "\0" not in text),
    sample=st.integers(0, 2**31 - 1),
    proposition=st.sampled_from(Proposition),
    outcome=st.sampled_from([Outcome.ACCEPT, Outcome.REJECT, Outcome.ABSTAIN]),
    score=st.none() | st.floats(0, 1),
    calibrated=st.booleans(),
    guarantee=st.sampled_from(Guarantee),
    lossless=st.none() | st.booleans(),
    reason=texts,
    evidence=st.lists(equations | errors, max_size=3).map(tuple),
    cost=costs,
    raw=st.dictionaries(texts, json_values, max_size=3),
)
made = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))


@made
@given(verdicts=st.lists(judged, max_size=5))
def test_any_verdict_comes_back_as_it_was(store: VerdictStore, verdicts: list[Verdict]) -> None:
    run = store.begin_run("test")
    added = store.add(verdicts, run.id)
    kept = list(store.iter_verdicts(VerdictFilter(recorded_by=run.id)))
    assert added.inserted == len(kept)
    assert all(row.intact for row in kept)
    given_by_key = {(v.subject, v.verifier, v.sample): v for v in reversed(verdicts)}
    for row in kept:
        assert row.verdict == given_by_key[row.subject, row.verifier, row.sample]
        assert type(row.verdict.cost.wall_seconds) is float


@made
@given(
    steps=st.lists(st.tuples(plain, st.sampled_from(StepLabel)), max_size=4),
    problem=plain,
    name=texts,
    answer=st.none() | texts,
    meta=st.dictionaries(texts, json_values, max_size=2),
    line=st.none() | st.integers(1, 2**31 - 1),
)
def test_any_trace_comes_back_as_it_was(
    store: VerdictStore,
    steps: list[tuple[str, StepLabel]],
    problem: str,
    name: str,
    answer: str | None,
    meta: dict[str, Any],
    line: int | None,
) -> None:
    trace = Trace(
        id=name,
        problem=problem,
        steps=tuple(Step(text=text) for text, _ in steps),
        step_labels=tuple(label for _, label in steps),
        final_answer=answer,
        source=None if line is None else Source(format=name, file=name, line=line),
        meta=meta,
    )
    run = store.begin_run("test")
    store.add_traces(run.id, [trace])
    assert list(store.run_traces(run.id)) == [trace]


def test_rows_for_no_table_change_nothing(tmp_path: Path, open_store: Callable[..., VerdictStore]) -> None:
    """The negative control of the round trips: without an insert, nothing comes back."""
    store = open_store(str(tmp_path / "a.db"))
    assert store._database.write(lambda c: insert_new(c, metadata.tables["traces"], ("digest",), [])) == 0
    assert list(store.iter_verdicts()) == []
