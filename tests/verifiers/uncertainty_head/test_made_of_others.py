"""Verifiers made of others: what their parts are told while a step is written is not read a second time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.language_model import Completion, Context, Decoding, Request
from draftproof.pipelines.step_internals import internals_wanted
from draftproof.pipelines.step_loop import Writer
from draftproof.pipelines.step_state import StepSettings
from draftproof.subject import Granularity, Subject, SubjectKey, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Outcome
from draftproof.verifier import Verifier, identity
from draftproof.verifiers.arithmetic import ArithmeticVerifier
from draftproof.verifiers.combining.agreement import AgreementGate
from draftproof.verifiers.combining.calibrated import Calibrated
from draftproof.verifiers.combining.calibration import fit_calibrator
from draftproof.verifiers.combining.cascade import Cascade, Stage, Thresholds
from draftproof.verifiers.combining.conformal import Bounds, Conformal, ConformalThresholds
from draftproof.verifiers.combining.stored import FittedFor
from draftproof.verifiers.combining.weighted import Weighted, naive_bayes
from draftproof.verifiers.internals import TakesInternals
from draftproof.verifiers.uncertainty_head.baselines import TokenEntropyVerifier
from draftproof.verifiers.uncertainty_head.features import FeatureSet
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead
from draftproof.verifiers.uncertainty_head.head_files import Base, HeadRecord, save_head
from draftproof.verifiers.uncertainty_head.reader import Reader
from draftproof.verifiers.uncertainty_head.verifier import UncertaintyHeadVerifier
from tests.verifiers.combining.scripted import Log, Scripted, labelled

PROBLEM = "Add 4 and 5."


def calibrated(part: Verifier) -> Verifier:
    scores = [(place % 10) / 10 + 0.05 for place in range(200)]
    examples = [
        labelled(score, (place // 10) % 20 < 20 * score, problem=f"p{place % 20}", trace=f"t{place}", verifier=part)
        for place, score in enumerate(scores)
    ]
    return Calibrated(part, fit_calibrator(part, examples, "platt"))


def conformal(part: Verifier) -> Verifier:
    bounds = {"": Bounds(accept_above=0.9, reject_below=0.1, wrong=30, right=30)}
    fitted = FittedFor.of(part)
    return Conformal(
        part, ConformalThresholds(verifier=fitted, alpha_accept=0.1, alpha_reject=0.1, seed=0, generators=bounds)
    )


def cascade(part: Verifier) -> Verifier:
    return Cascade((Stage(Scripted(), Thresholds(0.2, 0.8)), Stage(part, Thresholds(0.5, 0.5))), Log())


def weighted(part: Verifier) -> Verifier:
    parts = (ArithmeticVerifier(), part)
    return Weighted(parts, naive_bayes(parts, 0.5), Log())


def gate(part: Verifier) -> Verifier:
    return AgreementGate(part, Scripted(), 1, 1.0, Log())


MADE: list[Callable[[Verifier], Verifier]] = [
    calibrated,
    conformal,
    cascade,
    weighted,
    gate,
    lambda part: conformal(calibrated(part)),
]


@pytest.fixture
def head(trained_folder: Path) -> UncertaintyHeadVerifier:
    """Without a model: what it is not told, it abstains from."""
    return UncertaintyHeadVerifier(str(trained_folder))


@pytest.fixture(scope="module")
def written(writer: LocalLanguageModel, trained_folder: Path) -> Completion:
    layers = UncertaintyHeadVerifier(str(trained_folder)).needs_layers
    (made,) = writer.generate([Request(Context.of(PROBLEM), 12, hidden_layers=layers)])
    return made


def subject_of(written: Completion) -> Subject:
    (subject,) = step_subjects(Trace(problem=PROBLEM, steps=(Step(text="- " + written.text),)))
    return subject.model_copy(update={"text": written.text})


@pytest.mark.parametrize("make", MADE, ids=["calibrated", "conformal", "cascade", "weighted", "gate", "nested"])
def test_parts_are_told_what_a_combination_is_told(
    make: Callable[[Verifier], Verifier],
    head: UncertaintyHeadVerifier,
    written: Completion,
    writer: LocalLanguageModel,
) -> None:
    verifier = make(head)
    wanted = internals_wanted(verifier, writer.identity)
    assert wanted is verifier  # a pipeline tells it what its models knew
    assert isinstance(verifier, TakesInternals)
    assert (verifier.needs_layers, verifier.needs_top) == (head.needs_layers, 0)
    assert not verifier.knows("somebody#else")
    subject = subject_of(written)
    (before,) = head.check([subject])
    assert before.reason == "no_internals"
    verifier.offer(subject.key, written, writer=writer.identity)
    (own,) = head.check([subject])
    assert own.score is not None
    assert own.raw["mode"] == "online"
    assert verifier.check([subject])[0].verifier == identity(verifier)


@pytest.mark.parametrize("make", [calibrated, weighted], ids=["calibrated", "weighted"])
def test_a_combination_decides_by_what_it_was_told(
    make: Callable[[Verifier], Verifier],
    head: UncertaintyHeadVerifier,
    written: Completion,
    writer: LocalLanguageModel,
) -> None:
    verifier, subject = make(head), subject_of(written)
    (silent,) = verifier.check([subject])
    assert (silent.outcome, silent.score) == (Outcome.ABSTAIN, None)
    assert isinstance(verifier, TakesInternals)
    verifier.offer(subject.key, written, writer=writer.identity)
    (told,) = verifier.check([subject])
    assert told.outcome in (Outcome.ACCEPT, Outcome.REJECT)
    assert told.score is not None


def test_a_part_that_does_not_know_the_writer_reads(
    head: UncertaintyHeadVerifier, other_folder: Path, written: Completion, writer: LocalLanguageModel
) -> None:
    """Telling it would make it abstain, although it has a model to read with."""
    reading = TokenEntropyVerifier(str(other_folder))
    log = Log()
    verifier = Weighted((head, reading), naive_bayes((head, reading), 0.5), log)
    subject = subject_of(written)
    verifier.offer(subject.key, written, writer=writer.identity)
    verifier.check([subject])
    assert [verdict.raw["mode"] for verdict in log.verdicts] == ["online", "reader"]
    assert all(verdict.score is not None for verdict in log.verdicts)


def test_where_no_part_knows_the_writer_the_verdict_says_so(head: UncertaintyHeadVerifier, written: Completion) -> None:
    verifier, subject = conformal(head), subject_of(written)
    assert isinstance(verifier, TakesInternals)
    verifier.offer(subject.key, written, writer="somebody#else")
    (verdict,) = verifier.check([subject])
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "other_model")


def test_combinations_of_others_take_no_internals(writer: LocalLanguageModel) -> None:
    for make in MADE:
        verifier = make(Scripted(column=1))
        assert internals_wanted(verifier, writer.identity) is None


@pytest.mark.parametrize("make", [lambda part: part, conformal], ids=["alone", "made into another"])
def test_a_pipeline_s_writer_asks_for_all_that_is_needed(
    make: Callable[[Verifier], Verifier], loaded: LoadedModel, writer: LocalLanguageModel, tmp_path: Path
) -> None:
    """A head that looks at states and at the largest probabilities, in the loop that writes steps."""
    wanted = FeatureSet(layers=(1,), top=4)
    reader, head = Reader(loaded, wanted), StepHead(HeadConfig(64 + 3 + 4, width=16, heads=2))
    base = Base.of(loaded.model.info, reader.writer)
    save_head(tmp_path, head, HeadRecord(base, wanted, tuple(sorted(reader.blank))))
    part = UncertaintyHeadVerifier(str(tmp_path))
    verifier = make(part)
    internals = internals_wanted(verifier, writer.identity)
    assert internals is not None
    settings = StepSettings(max_step_tokens=10)
    text = Writer("draft", writer, Decoding(), settings, internals).write(PROBLEM, [], "answer", opening="o")["text"]
    key = SubjectKey(trace_digest="o", granularity=Granularity.STEP, position=0)
    (verdict,) = part.check([Subject(key=key, problem=PROBLEM, text=text)])
    assert (verdict.raw["mode"], verdict.score is None) == ("online", False)
