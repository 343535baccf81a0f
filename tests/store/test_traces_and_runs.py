"""Traces are stored once and found by name or digest; runs say what ran, where and with what."""

from __future__ import annotations

from pathlib import Path

import pytest

import draftproof.store.traces
from draftproof.errors import ContractError, UnknownNameError, UsageError
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import PlannedVerifier, RunStatus
from draftproof.store.runs import git_commit
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, WHOLE, made_traces, made_verdict, step_pair
from draftproof.trace import Source, Step, StepLabel, Trace

LABELS = (StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN)
FULL = Trace(
    id="gsm8k-7",
    problem="Janet has 16 eggs \u0000 and\r\n\u2028 a 🦆.",
    steps=(Step(text="16 - 3 = 13\n"), Step(text=""), Step(text="'); DROP TABLE verdicts; --")),
    segmentation="lines@2",
    final_answer="13",
    reference_answer="18",
    answer_correct=False,
    step_labels=LABELS,
    generator="tiny\u0000model",
    source=Source(format="processbench", file="a\u0000b.jsonl", line=3),
    meta={"difficulty": 4.5, "tags": ["x", None], "deep": {"a": {"b": 2**60}}},
)


def test_a_trace_comes_back_as_it_was_given(store: VerdictStore) -> None:
    run = store.begin_run("test")
    assert store.add_traces(run.id, [FULL]) == 1
    assert store.get_trace("gsm8k-7").trace == FULL
    assert store.get_trace(FULL.digest).trace == FULL
    assert store.get_trace(FULL.digest.removeprefix("sha256:")[:8]).digest == FULL.digest
    assert list(store.run_traces(run.id)) == [FULL]


def test_importing_again_adds_nothing(store: VerdictStore) -> None:
    traces = made_traces(20)
    first = store.begin_run("first")
    assert (store.add_traces(first.id, traces), store.add_traces(first.id, traces)) == (20, 0)
    second = store.begin_run("second")
    assert store.add_traces(second.id, traces) == 0
    assert list(store.run_traces(first.id)) == list(store.run_traces(second.id)) == traces
    assert len(store.get_trace(traces[0].id).sightings) == 1


def test_traces_that_came_out_of_a_run_are_no_input_of_it(store: VerdictStore) -> None:
    """Else the law would ask for verdicts of the run's verifiers about its own products."""
    given, made = made_traces(2)
    run = store.begin_run("test", verifiers=[WHOLE])
    store.add_traces(run.id, [given])
    assert (store.keep_traces([made]), store.keep_traces([made])) == (1, 0)
    assert store.get_trace(made.id).trace == made
    assert list(store.run_traces(run.id)) == [given]
    (total,) = store.conservation(run.id)
    assert total.subjects == 1


def test_batches_keep_the_order_of_the_input(store: VerdictStore) -> None:
    traces = made_traces(30)
    run = store.begin_run("test")
    for start in (20, 0, 10):
        store.add_traces(run.id, traces[start : start + 10])
    assert list(store.run_traces(run.id)) == traces[20:] + traces[:10] + traces[10:20]


def test_labels_that_come_later_are_not_lost(store: VerdictStore) -> None:
    """The digest does not cover labels, so the second import is of the same trace."""
    (plain,) = made_traces(1, steps=3)
    labelled = plain.model_copy(update={"step_labels": LABELS, "id": "with labels"})
    run = store.begin_run("test")
    store.add_traces(run.id, [plain])
    assert store.add_traces(run.id, [labelled]) == 0
    found = store.get_trace(plain.digest)
    assert found.trace == labelled
    assert found.sightings == (plain, labelled)


def test_more_traces_than_one_query_holds(store: VerdictStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draftproof.store.traces, "CHUNK", 7)
    traces = made_traces(30, steps=1)
    run = store.begin_run("test")
    assert store.add_traces(run.id, traces) == 30
    assert list(store.run_traces(run.id)) == traces


def test_no_traces_are_no_traces(store: VerdictStore) -> None:
    assert store.add_traces(store.begin_run("test").id, []) == 0


def test_an_ambiguous_name_lists_the_candidates(store: VerdictStore) -> None:
    traces = made_traces(40, steps=1)
    store.add_traces(store.begin_run("test").id, traces)
    with pytest.raises(UsageError, match=r"'' may be any of sha256:.*, sha256:.* and more") as caught:
        store.get_trace("")
    assert str(caught.value).count("sha256:") == 5


def test_an_id_that_two_traces_share_is_ambiguous(store: VerdictStore) -> None:
    a, b = made_traces(2, id="same")
    store.add_traces(store.begin_run("test").id, [a, b])
    with pytest.raises(UsageError) as caught:
        store.get_trace("same")
    assert a.digest in str(caught.value)
    assert b.digest in str(caught.value)


def test_an_id_wins_over_a_digest(store: VerdictStore) -> None:
    a, b = made_traces(2)
    named = a.model_copy(update={"id": b.digest})
    store.add_traces(store.begin_run("test").id, [named, b])
    assert store.get_trace(b.digest).digest == a.digest


@pytest.mark.parametrize("name", ["nothing", "sha256:", "%", "_", "sha256:zz", "'; --"])
def test_no_such_trace(store: VerdictStore, name: str) -> None:
    with pytest.raises(UnknownNameError, match="no trace"):
        store.get_trace(name)


def test_meta_that_is_not_json_is_refused(store: VerdictStore) -> None:
    run = store.begin_run("test")
    with pytest.raises(ContractError, match="made-0-0"):
        store.add_traces(run.id, made_traces(1, meta={"score": float("nan")}))


def test_a_run_says_what_ran(store: VerdictStore) -> None:
    run = store.begin_run(
        "draftproof verify 'a b.jsonl' \u0000",
        verifiers=[ARITHMETIC, WHOLE],
        settings={"workers": 2},
        inputs=[{"file": "a b.jsonl", "bytes": 10}],
    )
    assert run.status is RunStatus.RUNNING
    assert run.command == "draftproof verify 'a b.jsonl' \ufffd"
    assert run.finished_at is None
    assert run.verifiers == (ARITHMETIC, WHOLE)
    assert run.settings == {"workers": 2}
    assert run.inputs == ({"file": "a b.jsonl", "bytes": 10},)
    assert run.packages["pydantic"]
    assert run.config_digest.startswith("sha256:")
    assert run.host
    assert run.platform
    store.finish_run(run.id)
    ended = store.run(run.id[:9])
    assert ended.finished_at is not None
    assert ended.finished_at >= ended.started_at


def test_equal_configurations_have_equal_digests(store: VerdictStore) -> None:
    first, second = (store.begin_run("x", verifiers=[ARITHMETIC], settings={"a": 1}) for _ in range(2))
    other = store.begin_run("x", verifiers=[ARITHMETIC], settings={"a": 2})
    assert first.config_digest == second.config_digest != other.config_digest


def test_runs_are_listed_newest_first(store: VerdictStore) -> None:
    begun = [store.begin_run(f"command {i}") for i in range(3)]
    assert [run.id for run in store.runs()] == [run.id for run in reversed(begun)]
    assert [run.id for run in store.runs(limit=1)] == [begun[-1].id]
    assert begun[0].number < begun[1].number < begun[2].number


def test_a_run_is_found_by_the_start_of_its_id(store: VerdictStore) -> None:
    runs = [store.begin_run(str(i)) for i in range(40)]  # more than hex digits: two share their first
    shared = next(run.id[0] for run in runs if sum(other.id[0] == run.id[0] for other in runs) > 1)
    with pytest.raises(UsageError, match="may be any of"):
        store.run(shared)
    for name in ("", "%", "_", "zz"):
        with pytest.raises(UnknownNameError, match="no run"):
            store.run(name)


def test_a_verifier_given_twice_is_refused(store: VerdictStore) -> None:
    with pytest.raises(UsageError, match="given twice"):
        store.begin_run("x", verifiers=[ARITHMETIC, ARITHMETIC])


def test_samples_are_remembered(store: VerdictStore) -> None:
    sampled = PlannedVerifier(
        "judge@1#00", ARITHMETIC.granularity, ARITHMETIC.proposition, ARITHMETIC.guarantee, samples=5
    )
    assert store.run(store.begin_run("x", verifiers=[sampled]).id).verifiers == (sampled,)


def test_a_verdict_names_the_first_import_of_its_trace(store: VerdictStore) -> None:
    (trace,) = made_traces(1)
    run = store.begin_run("test")
    store.add_traces(run.id, [trace, trace.model_copy(update={"id": "later"})])
    store.add([made_verdict(step_pair(trace))], run.id)
    (row,) = store.iter_verdicts(VerdictFilter(trace="later"))
    assert (row.trace_id, row.generator, row.source_file, row.source_line) == (trace.id, "made", "made-0.jsonl", 1)


def test_the_commit_of_a_checkout_is_read(tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    assert git_commit(tmp_path) is None
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert git_commit(tmp_path) is None
    (git / "packed-refs").write_text("# pack-refs\n" + "a" * 40 + " refs/heads/main\n")
    assert git_commit(tmp_path) == "a" * 40
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert git_commit(tmp_path) == "b" * 40
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert git_commit(tmp_path) == "c" * 40
