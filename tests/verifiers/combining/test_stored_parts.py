"""Combinations over a real store: what each part said is kept, under its own name and sample."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from draftproof.store.queries import VerdictFilter
from draftproof.store.records import StoredVerdict
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Guarantee, Outcome
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.arithmetic import ArithmeticVerifier
from draftproof.verifiers.combining.agreement import agreement_gate
from draftproof.verifiers.combining.cascade import Cascade, Stage, Thresholds
from tests.verifiers.combining.scripted import Scripted
from tests.verifiers.combining.test_agreement import Voter

ARITHMETIC = ArithmeticVerifier()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore.open(f"sqlite:///{tmp_path / 's.db'}") as opened:
        yield opened


def kept(store: VerdictStore, verifier: str) -> list[StoredVerdict]:
    return list(store.iter_verdicts(VerdictFilter(verifier=verifier), order="subject"))


def test_each_stages_verdict_is_kept_with_its_own_guarantee(store: VerdictStore) -> None:
    trace = Trace(
        problem="p", steps=tuple(Step(text=t) for t in ("0.1\nSo 2 + 2 = 5.", "0.9\nSo 2 + 2 = 4.", "- none"))
    )
    run = store.begin_run("test", verifiers=[])
    store.add_traces(run.id, [trace])
    stages = (Stage(ARITHMETIC, Thresholds(0.0, None)), Stage(Scripted(), Thresholds(0.5, 0.5)))
    made = Cascade(stages, store.log(run.id))
    found = run_verifier(made, list(step_subjects(trace)), log=store.log(run.id))
    assert [v.outcome for v in found] == [Outcome.REJECT, Outcome.ACCEPT, Outcome.ABSTAIN]
    assert [v.raw["settled_by"] for v in found] == [identity(ARITHMETIC), identity(Scripted()), None]
    exact = kept(store, "arithmetic")
    assert [(row.outcome, row.guarantee) for row in exact] == [
        (Outcome.REJECT, Guarantee.EXACT), (Outcome.ACCEPT, Guarantee.EXACT), (Outcome.ABSTAIN, Guarantee.EXACT),
    ]  # fmt: skip
    assert [row.subject.position for row in kept(store, "scripted")] == [1, 2]
    assert {row.guarantee for row in kept(store, "cascade")} == {Guarantee.OPINION}
    assert kept(store, "cascade")[0].verdict == found[0]


def test_every_vote_is_kept_under_its_sample(store: VerdictStore) -> None:
    trace = Trace(problem="p", steps=(Step(text="ara 0.9"), Step(text="aaa 0.1")))
    run = store.begin_run("test", verifiers=[])
    store.add_traces(run.id, [trace])
    made = agreement_gate(Voter(calls=[]), Scripted(column=1), 3, 1.0, log=store.log(run.id))
    found = run_verifier(made, list(step_subjects(trace)), log=store.log(run.id))
    assert [v.reason for v in found] == ["slow_accept", "fast_agreement"]
    votes = [(row.subject.position, row.sample, row.outcome.value) for row in kept(store, "voter")]
    assert votes == [
        (0, 0, "accept"), (0, 1, "reject"), (0, 2, "accept"), (1, 0, "accept"), (1, 1, "accept"), (1, 2, "accept"),
    ]  # fmt: skip
    assert [row.subject.position for row in kept(store, "scripted")] == [0]
