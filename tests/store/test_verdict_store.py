"""What the log promises about single verdicts: kept exactly, kept once, never overwritten."""

from __future__ import annotations

import subprocess
import sys
from hashlib import sha256

import pytest

from draftproof.errors import ContractError, UnknownNameError, UsageError
from draftproof.store.leaf import leaf_digest
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Attempt, PlannedVerifier, Run
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdict, made_verdicts, step_pair
from draftproof.subject import Granularity, Subject, step_subjects
from draftproof.trace import Span
from draftproof.verdict import (
    Cost,
    FeatureEvidence,
    Guarantee,
    LeanEvidence,
    Outcome,
    Proposition,
    Verdict,
)
from draftproof.verifier import identity, run_verifier

TRACES = made_traces(3, steps=4)


@pytest.fixture
def run(store: VerdictStore) -> Run:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES)
    return run


def test_a_verdict_comes_back_as_it_was_given(store: VerdictStore, run: Run) -> None:
    lean = LeanEvidence(span=Span(start=0, end=9), text="2 + 2 = 5", status="refuted", axioms=("propext",), proof="by")
    given = made_verdict(
        step_pair(TRACES[0]),
        Outcome.REJECT,
        score=0.1 + 0.2,
        calibrated=True,
        lossless=False,
        evidence=(lean, FeatureEvidence(values={"margin": -1.5e-300, "entropy": 0.0})),
        cost=Cost(wall_seconds=1 / 3, calls=2, prompt_tokens=2**40, output_tokens=7),
        raw={"votes": [1, None, True, "x"], "big": 2**63, "nested": {"é": -0.5}},
    )
    store.add([given], run.id)
    (kept,) = store.iter_verdicts()
    assert kept.verdict == given
    assert kept.payload == given.model_dump_json()
    assert (kept.score, kept.calibrated, kept.lossless) == (0.1 + 0.2, True, False)
    assert (kept.wall_seconds, kept.calls, kept.prompt_tokens) == (1 / 3, 2, 2**40)
    assert kept.run == run.id
    assert kept.trace_id == TRACES[0].id


def test_columns_say_what_the_payload_says(store: VerdictStore, run: Run) -> None:
    """Otherwise a query would find verdicts that say something else."""
    pairs = store.missing(TRACES, [ARITHMETIC])
    store.add(list(made_verdicts(pairs)), run.id)
    for row in store.iter_verdicts():
        v = row.verdict
        assert (row.subject, row.verifier, row.sample) == (v.subject, v.verifier, v.sample)
        assert (row.outcome, row.score, row.reason) == (v.outcome, v.score, v.reason)
        assert (row.proposition, row.guarantee, row.lossless) == (v.proposition, v.guarantee, v.lossless)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"position": 1}, id="position"),
        pytest.param({"verifier": "arithmetic@2#0123456789ab"}, id="version"),
        pytest.param({"verifier": "arithmetic@1#ffffffffffff"}, id="configuration"),
        pytest.param({"sample": 1}, id="sample"),
    ],
)
def test_each_part_of_the_natural_key_counts(store: VerdictStore, run: Run, other: dict[str, object]) -> None:
    first, second = step_pair(TRACES[0]), step_pair(TRACES[0], **other)  # type: ignore[arg-type]
    assert store.add([made_verdict(first), made_verdict(second)], run.id).inserted == 2


def test_trace_and_granularity_count_too(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    other_trace = made_verdict(step_pair(TRACES[1]))
    other_kind = made_verdict(pair, subject=pair.subject.model_copy(update={"granularity": Granularity.CLAIM}))
    assert store.add([made_verdict(pair), other_trace, other_kind], run.id).inserted == 3


def test_the_first_verdict_about_a_pair_stays(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    store.add([made_verdict(pair, Outcome.ACCEPT)], run.id)
    (before,) = store.iter_verdicts()
    added = store.add([made_verdict(pair, Outcome.REJECT)], run.id)
    assert (added.inserted, added.duplicates) == (0, 1)
    assert list(store.iter_verdicts(VerdictFilter(history=True))) == [before]


def test_a_pair_twice_in_one_batch_is_kept_once(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    added = store.add([made_verdict(pair, Outcome.ACCEPT), made_verdict(pair, Outcome.REJECT)], run.id)
    assert (added.inserted, added.duplicates) == (1, 1)
    assert [row.outcome for row in store.iter_verdicts()] == [Outcome.ACCEPT]


def test_another_run_finds_the_pair_judged(store: VerdictStore, run: Run) -> None:
    verdict = made_verdict(step_pair(TRACES[0]))
    store.add([verdict], run.id)
    later = store.begin_run("again", verifiers=[ARITHMETIC])
    assert store.add([verdict], later.id).duplicates == 1
    assert [row.run for row in store.iter_verdicts()] == [run.id]


def test_nothing_of_a_batch_is_stored_when_one_verdict_cannot_be(store: VerdictStore, run: Run) -> None:
    good, bad = made_verdict(step_pair(TRACES[0])), made_verdict(step_pair(TRACES[0], 1), raw={"entropy": float("nan")})
    with pytest.raises(ContractError, match=r"arithmetic@1.*not JSON"):
        store.add([good, bad], run.id)
    assert list(store.iter_verdicts()) == []


@pytest.mark.parametrize("raw", [{"a": (1, 2)}, {"a": {1, 2}}, {"a": float("inf")}, {1: "a"}], ids=str)
def test_a_raw_that_json_would_change_is_refused(store: VerdictStore, run: Run, raw: dict[str, object]) -> None:
    verdict = Verdict.model_construct(**{**dict(made_verdict(step_pair(TRACES[0]))), "raw": raw})
    with pytest.raises(ContractError):
        store.add([verdict], run.id)


def test_an_empty_batch_is_nothing(store: VerdictStore, run: Run) -> None:
    added = store.add([], run.id)
    assert (added.inserted, added.duplicates, added.attempts) == (0, 0, 0)


def test_an_unknown_run_is_refused(store: VerdictStore) -> None:
    with pytest.raises(UnknownNameError, match="no run"):
        store.add([made_verdict(step_pair(TRACES[0]))], "3b1ff1a0-0000-4000-8000-000000000000")


def test_leaf_digests_cover_salt_and_payload(store: VerdictStore, run: Run) -> None:
    pairs = store.missing(TRACES, [ARITHMETIC])
    store.add([made_verdict(pair) for pair in pairs], run.id)
    rows = list(store.iter_verdicts())
    assert all(row.intact for row in rows)
    assert len({row.salt for row in rows}) == len({row.leaf for row in rows}) == len(pairs)
    row = rows[0]
    assert row.salt is not None
    assert row.payload is not None
    assert sha256(b"\x00" + row.salt + row.payload.encode()).digest() == row.leaf
    assert leaf_digest(row.salt, row.payload.replace("accept", "reject").encode()) != row.leaf


def test_an_error_is_noted_as_an_attempt(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    added = store.add([made_verdict(pair, Outcome.ERROR), made_verdict(step_pair(TRACES[1]))], run.id)
    assert added.attempts == 1
    (attempt,) = store.attempts(run.id)
    assert (attempt.pair, attempt.outcome, attempt.message) == (pair, "verifier_crashed", "ValueError: no digits")


def test_attempts_come_with_the_batch_and_are_kept_once(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    tries = [Attempt(pair, 1, "timeout", "30 s"), Attempt(pair, 2, "worker_lost", started_at="2026-01-01T00:00:00Z")]
    assert store.add([made_verdict(pair)], run.id, attempts=tries).attempts == 2
    assert store.record_attempts(run.id, tries) == 0
    assert [(each.attempt, each.outcome) for each in store.attempts(run.id)] == [(1, "timeout"), (2, "worker_lost")]


def test_a_retry_replaces_an_error_and_keeps_it(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    store.add([made_verdict(pair, Outcome.ERROR)], run.id)
    again = store.begin_run("again", verifiers=[ARITHMETIC])
    assert store.add([made_verdict(pair, Outcome.ACCEPT)], again.id).duplicates == 1
    assert store.add([made_verdict(pair, Outcome.ERROR)], again.id, retry_errors=True).inserted == 1
    assert store.add([made_verdict(pair, Outcome.ACCEPT)], again.id, retry_errors=True).inserted == 1
    history = list(store.iter_verdicts(VerdictFilter(history=True)))
    assert [(row.revision, row.outcome) for row in history] == [(0, "error"), (1, "error"), (2, "accept")]
    assert [row.supersedes for row in history] == [None, history[0].id, history[1].id]
    assert list(store.iter_verdicts()) == [history[2]]


def test_a_retry_does_not_touch_what_was_decided(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    store.add([made_verdict(pair, Outcome.REJECT)], run.id)
    assert store.add([made_verdict(pair, Outcome.ACCEPT)], run.id, retry_errors=True).duplicates == 1
    assert [row.outcome for row in store.iter_verdicts()] == [Outcome.REJECT]


def test_an_override_is_a_new_row_that_points_at_the_old(store: VerdictStore, run: Run) -> None:
    store.add([made_verdict(step_pair(TRACES[0]), Outcome.REJECT)], run.id)
    (old,) = store.iter_verdicts()
    new = store.override(old.id, Outcome.ACCEPT, author="Ada", note="the figure is rounded", score=0.9)
    assert (new.supersedes, new.revision, new.author, new.note) == (old.id, 1, "Ada", "the figure is rounded")
    assert (new.outcome, new.score, new.guarantee) == (Outcome.ACCEPT, 0.9, Guarantee.OPINION)
    assert list(store.iter_verdicts()) == [new]
    assert list(store.iter_verdicts(VerdictFilter(history=True))) == [old, new]
    assert list(store.iter_verdicts(VerdictFilter(author="Ada"))) == [new]


def test_a_human_does_not_sign_as_the_program(store: VerdictStore, run: Run) -> None:
    store.add([made_verdict(step_pair(TRACES[0]))], run.id)
    (old,) = store.iter_verdicts()
    new = store.override(old.id, Outcome.REJECT, author="Ada", note="no", run_id=run.id)
    assert new.run == run.id
    assert new.verifier == ARITHMETIC.identity  # whose pair it settles
    assert new.verdict.verifier.startswith("human@1#")
    assert new.verdict.raw["superseded_leaf"] == old.leaf.hex()
    assert new.verdict.raw["author"] == "Ada"


def test_only_a_current_verdict_can_be_overridden(store: VerdictStore, run: Run) -> None:
    store.add([made_verdict(step_pair(TRACES[0]))], run.id)
    (old,) = store.iter_verdicts()
    new = store.override(old.id, Outcome.REJECT, author="Ada", note="no")
    runs = len(store.runs())
    with pytest.raises(UsageError, match=f"{new.id} replaced it"):
        store.override(old.id, Outcome.ABSTAIN, author="Bob", note="who knows")
    assert list(store.iter_verdicts()) == [new]
    assert len(store.runs()) == runs
    third = store.override(new.id, Outcome.ABSTAIN, author="Bob", note="who knows")
    assert third.revision == 2


def test_a_retry_does_not_undo_an_override(store: VerdictStore, run: Run) -> None:
    pair = step_pair(TRACES[0])
    store.add([made_verdict(pair, Outcome.ERROR)], run.id)
    (old,) = store.iter_verdicts()
    store.override(old.id, Outcome.REJECT, author="Ada", note="plainly wrong")
    assert store.add([made_verdict(pair, Outcome.ACCEPT)], run.id, retry_errors=True).duplicates == 1


@pytest.mark.parametrize(
    ("outcome", "author", "note"),
    [(Outcome.ERROR, "Ada", "x"), (Outcome.ACCEPT, " ", "x"), (Outcome.ACCEPT, "Ada", "")],
    ids=["error-decides-nothing", "no-author", "no-reason"],
)
def test_an_override_says_what_who_and_why(
    store: VerdictStore, run: Run, outcome: Outcome, author: str, note: str
) -> None:
    store.add([made_verdict(step_pair(TRACES[0]))], run.id)
    (old,) = store.iter_verdicts()
    with pytest.raises(UsageError, match="override"):
        store.override(old.id, outcome, author=author, note=note)


def test_what_is_not_there_is_named(store: VerdictStore) -> None:
    with pytest.raises(UnknownNameError, match="no verdict 7"):
        store.verdict(7)
    with pytest.raises(UnknownNameError, match="no verdict 7"):
        store.override(7, Outcome.ACCEPT, author="Ada", note="x")


class Scripted:
    """A verifier that accepts every step, and breaks on the first of each trace."""

    name, version = "scripted", 1
    granularity, proposition, guarantee = Granularity.STEP, Proposition.CORRECT, Guarantee.OPINION
    arguments: dict[str, object] = {"a": 1}  # noqa: RUF012
    fingerprint: dict[str, object] = {}  # noqa: RUF012

    def check(self, subjects: list[Subject]) -> list[Verdict]:
        if any(subject.key.position == 0 for subject in subjects):
            raise ValueError("hostile \ud800 \x00 step")
        return [
            Verdict(
                subject=subject.key,
                verifier=identity(self),
                proposition=self.proposition,
                outcome=Outcome.ACCEPT,
                guarantee=self.guarantee,
            )
            for subject in subjects
        ]


def test_run_verifier_logs_into_a_run(store: VerdictStore) -> None:
    verifier = Scripted()
    run = store.begin_run("scripted", verifiers=[verifier])
    store.add_traces(run.id, TRACES)
    log = store.log(run.id)
    given = [verdict for trace in TRACES for verdict in run_verifier(verifier, list(step_subjects(trace)), log=log)]
    assert [row.verdict for row in store.iter_verdicts()] == given
    assert (log.inserted, log.duplicates) == (12, 0)
    (total,) = store.finish_run(run.id)
    assert (total.subjects, total.accepted, total.errored) == (12, 9, 3)
    assert store.run(run.id).verifiers == (PlannedVerifier.of(verifier),)


def test_importing_the_store_imports_no_driver_and_no_table_library() -> None:
    code = (
        "import sys, draftproof.store.verdict_store, draftproof.store.export\n"
        "print(sorted({'pandas', 'pyarrow', 'psycopg', 'alembic', 'torch'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_an_error_stored_twice_by_one_run_is_one_error(store: VerdictStore, run: Run) -> None:
    """As when a batch is stored again because nobody knows whether its commit arrived."""
    error = made_verdict(step_pair(TRACES[0]), Outcome.ERROR)
    assert store.add([error], run.id, retry_errors=True).inserted == 1
    again = store.add([error], run.id, retry_errors=True)
    assert (again.inserted, again.duplicates) == (0, 1)
    later = store.begin_run("again", verifiers=[ARITHMETIC])
    assert store.add([error], later.id, retry_errors=True).inserted == 1
