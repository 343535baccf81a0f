"""Canaries: counted, mixed in at random, and no part of the run that they are mixed into."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from draftproof.batch.canaries import SKIPPED, canary_lines, false_accepts, known_wrong
from draftproof.batch.run import BatchResult, verify_batch
from draftproof.cli.main import run
from draftproof.errors import UsageError
from draftproof.metrics.binomial import exact_interval
from draftproof.registry import create_verifier
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import RunStatus
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity, Subject
from draftproof.trace import Source, Step, StepLabel, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import Verifier, identity

LETTERS = {"c": StepLabel.CORRECT, "x": StepLabel.INCORRECT, "?": StepLabel.UNKNOWN}

FOUND = "Then 2 + 2 = 5."
MISSED = "Then 2 + 2 = 4, which is not what was asked for."
SILENT = "Then we are done."


def trace(number: int, *steps: str, labels: str | None = None, **more: Any) -> Trace:
    marks = None if labels is None else tuple(LETTERS[letter] for letter in labels)
    given = tuple(Step(text=step) for step in steps)
    return Trace(problem=f"Problem {number}.", steps=given, step_labels=marks, **more)


def inputs(count: int) -> list[Trace]:
    return [trace(number, f"First {number} + 1 = {number + 1}.", "So 1 + 1 = 2.", "Done.") for number in range(count)]


def canaries(*wrong: str) -> list[Trace]:
    """Each with a right step before the wrong one, and one of unknown truth behind it."""
    source = Source(format="steps", file="canaries.jsonl", line=1)
    return [
        trace(1000 + number, "Well, 3 + 3 = 6.", text, "So 1 + 1 = 3.", labels="cx?", source=source)
        for number, text in enumerate(wrong)
    ]


class Scripted:
    """Accepts every step but those that say a word, and remembers the batches it was given."""

    name = "scripted"
    version = 1
    proposition = Proposition.CORRECT
    guarantee = Guarantee.OPINION
    fingerprint: Mapping[str, Any] = {}
    arguments: Mapping[str, Any] = {}

    def __init__(self, granularity: Granularity = Granularity.STEP, stop: Callable[[Subject], None] | None = None):
        self.granularity = granularity
        self.batches: list[list[Subject]] = []
        self._stop = stop

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        self.batches.append(list(subjects))
        for subject in subjects:
            if self._stop is not None:
                self._stop(subject)
        if any("crash" in subject.text for subject in subjects):
            raise RuntimeError("crash")
        return [
            Verdict(
                subject=subject.key, verifier=identity(self), proposition=self.proposition, guarantee=self.guarantee,
                outcome=Outcome.REJECT if "reject" in subject.text else Outcome.ACCEPT,
            )
            for subject in subjects
        ]  # fmt: skip

    @property
    def judged(self) -> list[str]:
        return [subject.text for batch in self.batches for subject in batch]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[VerdictStore]:
    with VerdictStore.open(f"sqlite:///{tmp_path / 's.db'}") as opened:
        yield opened


def verified(
    store: VerdictStore, given: Sequence[Trace], verifiers: Sequence[Verifier], wrong: Sequence[Trace], **more: Any
) -> BatchResult:
    return verify_batch(given, verifiers, store, command="test", canaries=wrong, **({"workers": 0} | more))


def found(result: BatchResult, verifier: str) -> dict[str, Any]:
    told: dict[str, Any] = result.run.counts["canaries"]["verifiers"]
    return dict(next(each for name, each in told.items() if name.startswith(f"{verifier}@")))


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_accepted_of_them_is_kept_with_the_run_and_nothing_else_counts_them(
    store: VerdictStore, workers: int
) -> None:
    arithmetic = create_verifier("arithmetic")
    wrong = canaries(FOUND, FOUND + " ", MISSED, MISSED + " ", SILENT)
    result = verified(store, inputs(4), [arithmetic], wrong, workers=workers)
    low, high = exact_interval(2, 5)
    assert found(result, "arithmetic") == {
        "judged": 5, "accepted": 2, "rejected": 2, "abstained": 1, "errored": 0,
        "false_accept_rate": 0.4, "low": low, "high": high,
    }  # fmt: skip
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.abstained, total.missing, total.strays) == (12, 8, 4, 0, 0)
    assert result.progress.judged == 12
    assert sum(result.progress.outcomes.values()) == 12
    digests = {each.digest for each in wrong}
    of_run = list(store.iter_verdicts(VerdictFilter(run=result.run.id)))
    assert len(of_run) == 12
    assert not digests & {row.subject.trace_digest for row in of_run}
    assert not any(store.iter_verdicts(VerdictFilter(recorded_by=result.run.id, outcome=Outcome.REJECT)))


def test_they_belong_to_a_run_of_their_own_that_obeys_the_law(store: VerdictStore) -> None:
    result = verified(store, inputs(4), [create_verifier("arithmetic")], canaries(FOUND, MISSED, SILENT))
    own = store.run(result.run.counts["canaries"]["run"])
    assert own.settings == {"canaries_of": result.run.id}
    assert own.status is RunStatus.FINISHED
    assert own.inputs == ({"name": "canaries.jsonl"},)
    (total,) = store.conservation(own.id)
    assert (total.subjects, total.skipped, total.missing, total.planned) == (9, 6, 0, True)
    assert (total.accepted, total.rejected, total.abstained) == (1, 1, 1)
    assert SKIPPED == "no_canary"


def test_only_first_wrong_steps_are_judged(store: VerdictStore) -> None:
    scripted = Scripted()
    verified(store, [], [scripted], [*canaries("a", "b"), trace(5, "fine", labels="c"), trace(6, "?", labels="?")])
    assert sorted(scripted.judged) == ["a", "b"]


def test_running_again_judges_none_again_and_tells_the_same(store: VerdictStore) -> None:
    first, second = Scripted(), Scripted()
    wrong = canaries("a", "reject b", "c")
    before = verified(store, inputs(3), [first], wrong)
    after = verified(store, inputs(3), [second], wrong)
    assert found(before, "scripted") == found(after, "scripted")
    assert second.batches == []
    more = verified(store, inputs(3), [second], canaries("a", "reject b", "c", "reject d"))
    assert second.judged == ["reject d"]
    assert (found(more, "scripted")["accepted"], found(more, "scripted")["judged"]) == (2, 4)


def test_they_stand_among_the_others_in_every_part_of_a_run(store: VerdictStore) -> None:
    scripted = Scripted()
    wrong = canaries(*(f"canary {number}" for number in range(40)))
    result = verified(store, inputs(150), [scripted], wrong)
    is_canary = ["canary" in text for text in scripted.judged]
    assert (sum(is_canary), len(is_canary)) == (40, 490)
    assert all(not all("canary" in subject.text for subject in batch) for batch in scripted.batches)
    thirds = [sum(is_canary[start : start + 164]) for start in (0, 164, 328)]
    assert min(thirds) >= 4
    places = {place for batch in scripted.batches for place, one in enumerate(batch) if "canary" in one.text}
    assert len(places) > 8
    assert result.conservation[0].subjects == 450


def test_places_differ_from_run_to_run(tmp_path: Path) -> None:
    orders = set()
    for number in range(4):
        with VerdictStore.open(f"sqlite:///{tmp_path / f'{number}.db'}") as store:
            scripted = Scripted()
            verified(store, inputs(10), [scripted], canaries(*"abcde"))
            orders.add(tuple(scripted.judged))
    assert len(orders) > 1


@pytest.mark.parametrize("before", [0, 2, 200])
@pytest.mark.parametrize("behind", [0, 200])
def test_a_canary_that_is_in_the_input_too_is_judged_once_and_is_both(
    store: VerdictStore, before: int, behind: int
) -> None:
    wrong = canaries("a", "reject b")
    given = [*inputs(before), *wrong, *inputs(before + behind)[before:]]
    scripted = Scripted()
    result = verified(store, given, [scripted], wrong)
    assert len(scripted.judged) == 3 * len(given)
    assert scripted.judged.count("a") == scripted.judged.count("reject b") == 1
    assert (found(result, "scripted")["accepted"], found(result, "scripted")["judged"]) == (1, 2)
    (total,) = result.conservation
    assert (total.subjects, total.accepted, total.rejected, total.missing) == (3 * len(given), 3 * len(given) - 1, 1, 0)


def test_what_breaks_is_no_judgement(store: VerdictStore) -> None:
    result = verified(store, inputs(1), [Scripted()], canaries("a", "crash", "reject"))
    told = found(result, "scripted")
    assert (told["judged"], told["errored"], told["false_accept_rate"]) == (2, 1, 0.5)
    assert result.conservation[0].errored == 0
    nothing = false_accepts({Outcome.ERROR: 3})
    assert (nothing["judged"], nothing["false_accept_rate"], nothing["low"], nothing["high"]) == (0, None, None, None)


def test_a_run_that_is_stopped_keeps_what_was_judged_of_them(store: VerdictStore) -> None:
    def stop(subject: Subject) -> None:
        if "First 190" in subject.text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verified(store, inputs(200), [Scripted(stop=stop)], canaries(*map(str, range(100))))
    own, stopped = store.runs()
    assert (own.status, stopped.status) == (RunStatus.INTERRUPTED, RunStatus.INTERRUPTED)
    (told,) = stopped.counts["canaries"]["verifiers"].values()
    assert 0 < told["judged"] < 100
    scripted = Scripted()
    result = verified(store, inputs(200), [scripted], canaries(*map(str, range(100))))
    assert found(result, "scripted")["judged"] == 100
    assert sum(not text.startswith(("First", "So", "Done")) for text in scripted.judged) == 100 - told["judged"]


def test_whole_traces_are_canaries_where_traces_are_judged(store: VerdictStore) -> None:
    scripted = Scripted(Granularity.TRACE)
    wrong = [
        trace(1, "a", "b", labels="cx"),
        trace(2, "reject", answer_correct=False),
        trace(3, "c", answer_correct=True),
        trace(4, "d"),
    ]
    result = verified(store, inputs(2), [scripted], wrong)
    assert (found(result, "scripted")["judged"], found(result, "scripted")["accepted"]) == (2, 1)
    assert [known_wrong(each, Granularity.TRACE) for each in wrong] == [0, 0, None, None]
    assert [known_wrong(each, Granularity.STEP) for each in wrong] == [1, None, None, None]


def test_where_nothing_is_known_to_be_wrong_no_run_begins(store: VerdictStore) -> None:
    for wrong in ([trace(1, "a")], [trace(1, "a", labels="c")], [trace(1, "a", answer_correct=False)]):
        with pytest.raises(UsageError, match="None of the 1 canaries is known to be wrong by what scripted judges"):
            verified(store, inputs(1), [Scripted()], wrong)
    assert store.runs() == []


def test_a_run_without_them_tells_nothing_of_them(store: VerdictStore) -> None:
    result = verified(store, inputs(2), [Scripted()], [])
    assert "canaries" not in result.run.counts
    assert canary_lines(result.run.counts) == []
    assert len(store.runs()) == 1


def test_workers_are_told_the_reference_answer(store: VerdictStore) -> None:
    """A judge that is shown it would abstain from everything."""
    from draftproof.batch.task import Item, Task, items_of

    given = trace(1, "a", labels="x", reference_answer="9")
    (item,) = items_of(json.loads(json.dumps(Task(0, (Item(given, (0,)),)).message())))
    assert next(item.subjects(Scripted())).reference_answer == "9"
    assert item.trace.step_labels is None
    assert item.trace.digest == given.digest


# The command


def write(path: Path, traces: Sequence[Trace]) -> Path:
    names = {StepLabel.CORRECT: "correct", StepLabel.INCORRECT: "incorrect", StepLabel.UNKNOWN: "unknown"}
    rows = [
        {"problem": each.problem, "steps": [step.text for step in each.steps]}
        | ({"step_labels": [names[label] for label in each.step_labels]} if each.step_labels else {})
        for each in traces
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_command_shows_the_rate_and_the_run_keeps_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = write(tmp_path / "given.jsonl", inputs(4))
    wrong = write(tmp_path / "wrong.jsonl", [*canaries(FOUND, MISSED, SILENT), *inputs(2)])
    place = ["--store", f"sqlite:///{tmp_path / 's.db'}"]
    command = ["verify", str(given), "-v", "arithmetic", "--canaries", str(wrong), "--workers", "0", *place]
    assert run(command) == 0
    shown = capsys.readouterr().out
    line = "arithmetic: accepted 1 of 3 canaries, which are known to be wrong: false-accept rate 33.3 %"
    assert line in shown
    assert "(95 % interval 0.8 – 90.6 %); 1 abstained" in shown
    assert "12 subjects = 8 accepted + 0 rejected + 4 abstained" in shown
    assert run([*command, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["first_wrong_steps"] == []
    (rates,) = told["canaries"]["verifiers"].values()
    assert (rates["accepted"], rates["judged"]) == (1, 3)
    assert run(["runs", "show", told["run"], *place]) == 0
    assert line in capsys.readouterr().out
    assert run(["runs", "list", "--limit", "2", "--json", *place]) == 0
    listed = [json.loads(row) for row in capsys.readouterr().out.splitlines()]
    assert [row["counts"]["canaries"]["run"] == told["canaries"]["run"] for row in listed] == [True, False]
    assert run(["runs", "show", told["canaries"]["run"], "--json", *place]) == 0
    assert json.loads(capsys.readouterr().out)["settings"] == {"canaries_of": told["run"]}


@pytest.mark.parametrize(
    ("content", "status", "said"),
    [
        pytest.param(None, 3, "wrong.jsonl", id="no file"),
        pytest.param('{"problem": "p", "steps": ["a"]}\n', 2, "known to be wrong", id="no labels"),
        pytest.param('{"problem": "p", "steps": ["a"], "step_labels": ["incorrect"]}\n{', 3, "", id="unreadable"),
        pytest.param("", 3, "", id="empty"),
    ],
)
def test_canaries_that_cannot_be_used_are_an_error_before_anything_is_judged(
    content: str | None, status: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given, wrong = write(tmp_path / "given.jsonl", inputs(1)), tmp_path / "wrong.jsonl"
    if content is not None:
        wrong.write_text(content)
    store = f"sqlite:///{tmp_path / 's.db'}"
    ended = run(
        ["verify", str(given), "-v", "arithmetic", "--canaries", str(wrong), "--workers", "0", "--store", store]
    )
    assert (ended, said in capsys.readouterr().err) == (status, True)
    with VerdictStore.open(store) as opened:
        assert opened.runs() == []


def test_canaries_do_not_come_from_standard_input(tmp_path: Path) -> None:
    given = write(tmp_path / "given.jsonl", inputs(1))
    assert run(["verify", str(given), "-v", "arithmetic", "--canaries", "-"]) == 2
