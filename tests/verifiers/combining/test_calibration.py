"""Calibrators: fitted on some problems and measured on others, bound to one verifier, and hard to fool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from draftproof import registry
from draftproof.errors import InputError, UsageError
from draftproof.registry import Listing, parse_verifier
from draftproof.subject import Granularity
from draftproof.trace import Step, StepLabel, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.combining.calibrated import Calibrated
from draftproof.verifiers.combining.calibration import Calibrator, fit_calibrator
from draftproof.verifiers.combining.labelled import hold_labels_exist, label_verdicts, split_by_problem
from draftproof.verifiers.combining.maps import Isotonic, Platt, Table
from draftproof.verifiers.combining.stored import FittedFor
from tests.verifiers.combining.scripted import Log, Scripted, labelled, overconfident, subjects


@pytest.fixture(scope="module")
def calibrator() -> Calibrator:
    return fit_calibrator(Scripted(), overconfident(600), "platt")


@pytest.fixture
def by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the registry knows once these verifiers are listed in it."""
    ours = (
        Listing("scripted", "tests.verifiers.combining.scripted:Scripted", ""),
        Listing("calibrated", "draftproof.verifiers.combining.calibrated:calibrated", ""),
    )
    kept = tuple(each for each in registry._BUILT_IN if each.name != "calibrated")
    monkeypatch.setattr(registry, "_BUILT_IN", (*kept, *ours))


def check(verifier: Any, *texts: str) -> list[Verdict]:
    return run_verifier(verifier, subjects(*texts), log=Log())


def test_an_overconfident_judge_gets_better_on_problems_that_nothing_was_fitted_on(calibrator: Calibrator) -> None:
    assert calibrator.log_loss.change.high < 0
    assert calibrator.brier.change.high < 0
    assert calibrator.ece.after.value < calibrator.ece.before.value
    assert calibrator.log_loss.before.low < calibrator.log_loss.before.value < calibrator.log_loss.before.high
    tally = calibrator.fitted_on
    assert tally.right + tally.wrong + calibrator.measured_on.right + calibrator.measured_on.wrong == 600
    assert calibrator.generators == {"weak": tally.right + tally.wrong}


def test_an_honest_judge_does_not_get_better() -> None:
    """The negative control: a measure that always falls would measure nothing."""
    found = fit_calibrator(Scripted(), overconfident(600, sharpness=1.0), "platt")
    assert found.log_loss.change.low < 0.01
    assert found.log_loss.change.high > -0.01


def test_no_problem_is_fitted_on_and_measured_with() -> None:
    examples = overconfident(400, problems=40)
    to_fit, rest = split_by_problem(examples, lambda e: e.problem, held_out=0.3, seed=1)
    assert not {e.problem for e in to_fit} & {e.problem for e in rest}
    assert len({e.problem for e in rest}) == 12
    again, _ = split_by_problem(examples[::-1], lambda e: e.problem, held_out=0.3, seed=1)
    assert {e.problem for e in again} == {e.problem for e in to_fit}
    other, _ = split_by_problem(examples, lambda e: e.problem, held_out=0.3, seed=2)
    assert {e.problem for e in other} != {e.problem for e in to_fit}


@pytest.mark.parametrize(("method", "count"), [("platt", 60), ("temperature", 40), ("isotonic", 900), ("table", 30)])
def test_too_few_labels_are_refused(method: Any, count: int) -> None:
    with pytest.raises(UsageError, match="too few labels"):
        fit_calibrator(Scripted(), overconfident(count), method)


def test_labels_of_one_kind_or_one_problem_are_refused() -> None:
    right = [labelled(0.9, True, trace=f"t{i}", problem=f"p{i}") for i in range(500)]
    with pytest.raises(UsageError, match="0 wrong"):
        fit_calibrator(Scripted(), right)
    with pytest.raises(UsageError, match="problems"):
        fit_calibrator(Scripted(), overconfident(500, problems=4))


def test_verdicts_of_another_verifier_are_refused() -> None:
    with pytest.raises(UsageError, match="cannot calibrate"):
        fit_calibrator(Scripted(edition=2), overconfident(600))
    with pytest.raises(UsageError, match="no calibration"):
        fit_calibrator(Scripted(), overconfident(600), "magic")  # type: ignore[arg-type]


def test_isotonic_and_tables_are_fitted_with_enough_labels() -> None:
    assert isinstance(fit_calibrator(Scripted(), overconfident(1500), "isotonic").calibration, Isotonic)
    digits = [
        labelled(round(e.verdict.score, 1), e.truth, trace=e.trace, problem=e.problem)
        for e in overconfident(600)
        if e.verdict.score is not None
    ]
    found = fit_calibrator(Scripted(), digits, "table")
    assert isinstance(found.calibration, Table)
    verifier = Calibrated(Scripted(), found)
    seen, unseen = check(verifier, "0.3", "0.31")
    assert seen.score is not None
    assert (unseen.outcome, unseen.reason, unseen.score) == (Outcome.ABSTAIN, "state_not_in_calibration", None)


def test_the_calibrated_verifier_decides_by_the_calibrated_score(calibrator: Calibrator) -> None:
    log = Log()
    verifier = Calibrated(Scripted(), calibrator, generator="weak", log=log)
    high, low = run_verifier(verifier, subjects("0.99", "0.01"), log=Log())
    assert (high.outcome, low.outcome) == (Outcome.ACCEPT, Outcome.REJECT)
    assert high.score is not None
    assert 0.5 < high.score < 0.95  # log-odds of 4.6 were three times too many
    assert high.calibrated
    assert high.guarantee is Guarantee.OPINION
    assert high.raw["of"]["score"] == 0.99
    assert [v.score for v in log.of(Scripted())] == [0.99, 0.01]


def test_equality_accepts(calibrator: Calibrator) -> None:
    half = calibrator.model_copy(update={"calibration": Platt(slope=1.0, shift=0.0)})
    (at,) = check(Calibrated(Scripted(), half), "0.5")
    assert at.outcome is Outcome.ACCEPT


def test_an_abstention_and_an_error_stay_what_they_are(calibrator: Calibrator) -> None:
    silent, broken, spoke = check(Calibrated(Scripted(), calibrator), "-", "!", "0.9")
    assert (silent.outcome, silent.score, silent.calibrated) == (Outcome.ABSTAIN, None, False)
    assert (broken.outcome, broken.score) == (Outcome.ERROR, None)
    assert spoke.outcome is Outcome.ACCEPT


def test_a_computed_rejection_stands_however_probable_the_step_is() -> None:
    exact = Scripted(guarantee=Guarantee.EXACT)
    examples = overconfident(600, seed=4)
    said = [labelled(0.0 if i % 3 else 1.0, i % 4 != 0, trace=e.trace, problem=e.problem, verifier=exact)
            for i, e in enumerate(examples)]  # fmt: skip
    lenient = fit_calibrator(exact, said, "table")
    (found,) = check(Calibrated(exact, lenient), "0.0")
    assert found.score is not None
    assert found.score > 0.5
    assert found.outcome is Outcome.REJECT
    (soft,) = check(Calibrated(Scripted(), lenient.model_copy(update={"verifier": FittedFor.of(Scripted())})), "0.0")
    assert soft.outcome is Outcome.ACCEPT


def test_a_generator_that_the_calibrator_never_saw_is_told(calibrator: Calibrator) -> None:
    (foreign,) = check(Calibrated(Scripted(), calibrator, generator="strong"), "0.9")
    assert (foreign.reason, foreign.calibrated) == ("generator_not_in_calibration", False)
    (unstated,) = check(Calibrated(Scripted(), calibrator), "0.9")
    assert (unstated.raw["warning"], unstated.calibrated) == ("generator_not_stated", False)
    (known,) = check(Calibrated(Scripted(), calibrator, generator="weak"), "0.9")
    assert (known.raw["warning"], known.reason, known.calibrated) == ("", "at_or_above_threshold", True)


def test_a_calibrator_of_traces_that_name_no_generator_calls_nothing_calibrated() -> None:
    """Whoever wrote what is judged now: nothing says that it was one of those."""
    nameless = [labelled(e.verdict.score, e.truth, trace=e.trace, problem=e.problem) for e in overconfident(600)]
    found = fit_calibrator(Scripted(), nameless, "platt")
    assert list(found.generators) == [""]
    (verdict,) = check(Calibrated(Scripted(), found), "0.9")
    assert (verdict.raw["warning"], verdict.calibrated) == ("generator_not_stated", False)


def test_a_calibrator_of_another_version_is_refused(calibrator: Calibrator) -> None:
    with pytest.raises(UsageError, match="was fitted for"):
        Calibrated(Scripted(edition=2), calibrator)
    with pytest.raises(UsageError, match="was fitted for"):
        Calibrated(Scripted(column=1), calibrator)


@pytest.mark.usefixtures("by_name")
def test_a_name_and_a_file_make_it_again(calibrator: Calibrator, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    calibrator.save(path)
    assert Calibrator.load(path) == calibrator
    made = parse_verifier(f"calibrated:file={path},generator=weak")
    assert isinstance(made, Calibrated)
    assert check(made, "0.8")[0].score == check(Calibrated(Scripted(), calibrator), "0.8")[0].score
    again = registry.create_verifier("calibrated", made.arguments)
    assert identity(again) == identity(made)
    assert identity(again) != identity(parse_verifier(f"calibrated:file={path}"))
    assert list(tmp_path.iterdir()) == [path]


def _without_digest(content: dict[str, Any]) -> None:
    del content["digest"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(lambda c: c["calibration"].update(slope=9.0), "changed after", id="an-edited-number"),
        pytest.param(_without_digest, "changed after", id="no-digest"),
        pytest.param(lambda c: c["calibration"].update(slope=-1.0), "greater than 0", id="a-falling-map"),
        pytest.param(lambda c: c.update(version=2), "version", id="a-later-version"),
        pytest.param(lambda c: c.update(code="import os"), "code", id="a-field-too-many"),
        pytest.param(lambda c: c["calibration"].update(kind="pickle"), "kind", id="an-unknown-map"),
    ],
)
def test_a_tampered_file_is_refused(
    calibrator: Calibrator, tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    path = tmp_path / "c.json"
    calibrator.save(path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=says):
        Calibrator.load(path)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '{"digest": NaN}', "[" * 100_000])
def test_what_is_no_calibrator_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(InputError, match="draftproof-calibrator"):
        Calibrator.load(path)


def test_a_missing_file_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        Calibrator.load(tmp_path / "nowhere.json")


@pytest.mark.usefixtures("by_name")
def test_a_file_whose_verifier_has_moved_on_is_refused(calibrator: Calibrator, tmp_path: Path) -> None:
    moved = calibrator.verifier.model_copy(update={"arguments": {"edition": 2}})
    calibrator.model_copy(update={"verifier": moved}).save(tmp_path / "c.json")
    with pytest.raises(UsageError, match="was fitted for"):
        parse_verifier(f"calibrated:file={tmp_path / 'c.json'}")


def test_labels_meet_verdicts_and_unknown_steps_have_none() -> None:
    trace = Trace(
        problem="p",
        steps=tuple(Step(text=text) for text in ("0.9", "0.2", "0.7")),
        step_labels=(StepLabel.CORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN),
        generator="weak",
    )
    from draftproof.subject import step_subjects

    verdicts = run_verifier(Scripted(), list(step_subjects(trace)), log=Log())
    found = label_verdicts([trace, trace], [*verdicts, *verdicts])
    assert [(e.verdict.score, e.truth, e.generator) for e in found] == [(0.9, True, "weak"), (0.2, False, "weak")]
    other = trace.model_copy(update={"step_labels": (StepLabel.INCORRECT, StepLabel.INCORRECT, StepLabel.UNKNOWN)})
    with pytest.raises(UsageError, match="right once and wrong once"):
        label_verdicts([trace, other], verdicts)


def test_an_error_says_nothing_about_its_subject() -> None:
    trace = Trace(problem="p", steps=(Step(text="!"),), step_labels=(StepLabel.CORRECT,))
    from draftproof.subject import step_subjects

    assert label_verdicts([trace], run_verifier(Scripted(), list(step_subjects(trace)), log=Log())) == []


@pytest.mark.parametrize(
    "verifier",
    [
        pytest.param(Scripted(proposition=Proposition.TARGET_BETTER), id="another-proposition"),
        pytest.param(Scripted(granularity=Granularity.TOKEN_BLOCK), id="another-granularity"),
    ],
)
def test_labels_say_nothing_about_other_propositions(verifier: Scripted) -> None:
    with pytest.raises(UsageError, match="judges"):
        hold_labels_exist(verifier)
