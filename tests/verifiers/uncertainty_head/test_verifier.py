"""The verifier: the same score while a step is written and when it is read again, and silence without internals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import UsageError
from draftproof.language_model import Completion, Context, Decoding, Piece, Request, StopCause
from draftproof.registry import create_verifier, parse_verifier
from draftproof.subject import Granularity, Subject, SubjectKey, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import FeatureEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity, run_verifier
from draftproof.verifiers.uncertainty_head import judging
from draftproof.verifiers.uncertainty_head.features import FeatureSet
from draftproof.verifiers.uncertainty_head.head import HeadConfig, StepHead
from draftproof.verifiers.uncertainty_head.head_files import Base, HeadRecord, save_head
from draftproof.verifiers.uncertainty_head.reader import Reader
from draftproof.verifiers.uncertainty_head.verifier import UncertaintyHeadVerifier
from tests.verifiers.uncertainty_head.conftest import CONTEXT, marked_traces

PROBLEM = "Add 4 and 5."


class Log:
    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts.extend(verdicts)


@pytest.fixture(scope="module")
def judge(trained_folder: Path, ascii_folder: Path) -> UncertaintyHeadVerifier:
    return UncertaintyHeadVerifier(str(trained_folder), str(ascii_folder))


@pytest.fixture
def online(trained_folder: Path) -> UncertaintyHeadVerifier:
    """Without a model to read with."""
    return UncertaintyHeadVerifier(str(trained_folder))


def written_stepwise(
    writer: LocalLanguageModel, layers: tuple[int, ...], seed: int, steps: int = 4
) -> list[Completion]:
    """Steps as a pipeline has them written: each goes on from those before."""
    made: list[Completion] = []
    pieces: list[Piece] = []
    for number in range(steps):
        request = Request(
            Context.of(PROBLEM, pieces),
            max_new_tokens=40,
            stop=(" ", "\n"),
            decoding=Decoding(temperature=0.8, seed=seed * 100 + number),
            hidden_layers=layers,
        )
        (completion,) = writer.generate([request])
        if not completion.ids:  # a control token came
            break
        made.append(completion)
        pieces.append(Piece(completion.text, writer.identity, completion.ids))
    return made


def trace_of(completions: Sequence[Completion]) -> Trace:
    return Trace(problem=PROBLEM, steps=tuple(Step(text=each.text) for each in completions))


def test_both_ways_give_equal_scores_for_text_that_the_model_wrote(
    judge: UncertaintyHeadVerifier, online: UncertaintyHeadVerifier, writer: LocalLanguageModel
) -> None:
    compared = 0
    for seed in range(12):
        made = written_stepwise(writer, online.needs_layers, seed)
        # a step without white space at its end would be given a separator as context: not what was written
        made = made[: next((n + 1 for n, each in enumerate(made) if not each.text[-1:].isspace()), len(made))]
        subjects = list(step_subjects(trace_of(made))) if made else []
        for subject, completion in zip(subjects, made, strict=True):
            online.offer(subject.key, completion, writer=writer.identity)
        for offered, read in zip(online.check(subjects), judge.check(subjects), strict=True):
            assert (offered.outcome, offered.reason) == (read.outcome, read.reason)
            if offered.score is None:
                continue
            assert read.score == pytest.approx(offered.score, abs=1e-4)
            assert (offered.raw["mode"], read.raw["mode"]) == ("online", "reader")
            assert offered.raw["logit"] == pytest.approx(read.raw["logit"], abs=2e-3)
            compared += 1
    assert compared > 10


def test_a_head_with_largest_probabilities_judges_online_as_it_reads(
    ascii_folder: Path, loaded: LoadedModel, writer: LocalLanguageModel, tmp_path: Path
) -> None:
    """Its weights are random: what is compared is what they are applied to."""
    wanted = FeatureSet(statistics=False, top=4)
    torch.manual_seed(0)
    reader = Reader(loaded, wanted)
    head = StepHead(HeadConfig(4, width=16, heads=2))
    base = Base.of(loaded.model.info, reader.writer)
    save_head(tmp_path, head, HeadRecord(base, wanted, tuple(sorted(reader.blank))))
    judge, online = UncertaintyHeadVerifier(str(tmp_path), str(ascii_folder)), UncertaintyHeadVerifier(str(tmp_path))
    assert (online.needs_layers, online.needs_top) == ((), 4)
    request = Request(Context.of(PROBLEM), 12, decoding=Decoding(seed=3), top=6)
    (made,) = writer.generate([request])
    (subject,) = step_subjects(trace_of([made]))
    (read,) = judge.check([subject])
    online.offer(subject.key, made, writer=writer.identity)
    (offered,) = online.check([subject])
    assert (offered.raw["mode"], read.raw["mode"]) == ("online", "reader")
    assert offered.raw["logit"] == pytest.approx(read.raw["logit"], abs=1e-4)
    other = replace(made, top=tuple((0.9, 0.05, 0.03, 0.01) for _ in made.top))  # negative control: they count
    online.offer(subject.key, other, writer=writer.identity)
    assert abs(online.check([subject])[0].raw["logit"] - read.raw["logit"]) > 1e-3
    for top in ((), made.top[:-1], tuple(each[:3] for each in made.top)):
        online.offer(subject.key, replace(made, top=top), writer=writer.identity)
        (verdict,) = online.check([subject])
        assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "no_internals")


def test_internals_of_another_moment_would_give_another_score(
    judge: UncertaintyHeadVerifier, online: UncertaintyHeadVerifier, writer: LocalLanguageModel
) -> None:
    """Negative control: states that are one token off do not pass for equal."""
    made = next(each for seed in range(20) for each in written_stepwise(writer, online.needs_layers, seed, steps=1))
    (subject,) = step_subjects(trace_of([made]))
    shifted = {layer: states.roll(1, dims=0) for layer, states in made.hidden.items()}
    online.offer(subject.key, replace(made, hidden=shifted), writer=writer.identity)
    (off,), (right,) = online.check([subject]), judge.check([subject])
    assert off.score is not None
    assert right.score is not None
    assert abs(off.raw["logit"] - right.raw["logit"]) > 0.01


def test_a_verdict_says_what_it_rests_on(judge: UncertaintyHeadVerifier) -> None:
    right, wrong = (
        next(step_subjects(Trace(problem="Sum 7?", steps=(Step(text=text),))))
        for text in ("so ok 44.\n\n", "so no 44.\n\n")
    )
    accepted, rejected = judge.check([right, wrong])
    assert (accepted.outcome, rejected.outcome) == (Outcome.ACCEPT, Outcome.REJECT)
    assert accepted.score is not None
    assert rejected.score is not None
    assert accepted.score > 0.5 > rejected.score
    for verdict in (accepted, rejected):
        assert verdict.score == pytest.approx(1 - float(torch.sigmoid(torch.tensor(verdict.raw["logit"]))), abs=1e-5)
        assert verdict.guarantee is Guarantee.OPINION
        assert verdict.proposition is Proposition.CORRECT
        assert not verdict.calibrated
        assert verdict.raw["mode"] == "reader"
        (evidence,) = verdict.evidence
        assert isinstance(evidence, FeatureEvidence)
        assert evidence.values["tokens"] == 9


def test_it_keeps_the_verifier_contract(judge: UncertaintyHeadVerifier) -> None:
    subjects = [subject for trace in marked_traces(5, seed=3) for subject in step_subjects(trace)]
    log = Log()
    verdicts = run_verifier(judge, subjects, log=log)
    assert verdicts == log.verdicts
    assert {verdict.verifier for verdict in verdicts} == {identity(judge)}
    assert judge.granularity is Granularity.STEP


def test_a_step_s_verdict_does_not_depend_on_what_else_is_asked(judge: UncertaintyHeadVerifier) -> None:
    subjects = [subject for trace in marked_traces(6, seed=4) for subject in step_subjects(trace)]
    together = judge.check(subjects)
    for subject, verdict in zip(subjects, together, strict=True):
        (alone,) = judge.check([subject])
        assert alone.raw["logit"] == pytest.approx(verdict.raw["logit"], abs=1e-3)


@pytest.fixture
def made(writer: LocalLanguageModel, online: UncertaintyHeadVerifier) -> Completion:
    return next(each for seed in range(20) for each in written_stepwise(writer, online.needs_layers, seed, steps=1))


def test_what_was_not_offered_is_abstained_from_without_a_model(
    online: UncertaintyHeadVerifier, made: Completion
) -> None:
    (verdict,) = online.check(list(step_subjects(trace_of([made]))))
    assert (verdict.outcome, verdict.reason, verdict.score) == (Outcome.ABSTAIN, "no_internals", None)


def test_a_step_may_be_offered_by_its_text(
    online: UncertaintyHeadVerifier, made: Completion, writer: LocalLanguageModel
) -> None:
    online.offer(made.text.rstrip(), made, writer=writer.identity)
    (verdict,) = online.check(list(step_subjects(trace_of([made]))))
    assert verdict.score is not None
    assert verdict.raw["mode"] == "online"
    (again,) = online.check(list(step_subjects(trace_of([made]))))
    assert again.reason == "no_internals"  # the same text in another place is not the same step
    with pytest.raises(UsageError, match="another text"):
        online.offer("something else", made, writer=writer.identity)


def test_candidates_for_one_position_are_told_apart(
    judge: UncertaintyHeadVerifier, online: UncertaintyHeadVerifier, writer: LocalLanguageModel
) -> None:
    """Draft's and target's candidates have one key, and each is judged by its own internals, or read."""
    candidates = [each for seed in range(30) for each in written_stepwise(writer, online.needs_layers, seed, steps=1)]
    one, other = candidates[0], next(each for each in candidates if each.text != candidates[0].text)
    (subject,) = step_subjects(trace_of([one]))
    rival = subject.model_copy(update={"text": other.text})
    for completion in (one, other):
        online.offer(subject.key, completion, writer=writer.identity)
    for offered, read in zip(online.check([subject, rival]), judge.check([subject, rival]), strict=True):
        assert offered.score == pytest.approx(read.score, abs=1e-4)
    judge.offer(subject.key, one, writer=writer.identity)
    assert [each.raw["mode"] for each in judge.check([subject, rival])] == ["online", "reader"]


def test_another_model_s_step_is_abstained_from(
    online: UncertaintyHeadVerifier, made: Completion, other_folder: Path
) -> None:
    (subject,) = step_subjects(trace_of([made]))
    for writer in (LocalLanguageModel(other_folder).identity, "model", "", "#"):
        online.offer(subject.key, made, writer=writer)
        (verdict,) = online.check([subject])
        assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "other_model")


def test_an_offer_of_another_step_is_abstained_from(
    online: UncertaintyHeadVerifier, made: Completion, writer: LocalLanguageModel
) -> None:
    (subject,) = step_subjects(trace_of([made]))
    online.offer(subject.key, made, writer=writer.identity)
    (verdict,) = online.check([subject.model_copy(update={"text": "something else"})])
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "other_text")


@pytest.mark.parametrize(
    "without",
    [{"hidden": {}}, {"logprobs": ()}, {"entropies": ()}, {"margins": (0.5,)}, {"ids": ()}, {"tokens": 0}],
    ids=lambda value: next(iter(value)),
)
def test_incomplete_internals_are_abstained_from(
    without: dict[str, object], online: UncertaintyHeadVerifier, made: Completion, writer: LocalLanguageModel
) -> None:
    (subject,) = step_subjects(trace_of([made]))
    online.offer(subject.key, replace(made, **without), writer=writer.identity)  # type: ignore[arg-type]
    (verdict,) = online.check([subject])
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "no_internals")
    assert verdict.raw["detail"]


def test_internals_that_are_no_numbers_are_abstained_from(
    online: UncertaintyHeadVerifier, made: Completion, writer: LocalLanguageModel
) -> None:
    (subject,) = step_subjects(trace_of([made]))
    broken = {layer: torch.full_like(states, float("nan")) for layer, states in made.hidden.items()}
    online.offer(subject.key, replace(made, hidden=broken), writer=writer.identity)
    (verdict,) = online.check([subject])
    assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "internals_not_finite")


def test_a_step_of_white_space_is_abstained_from(
    judge: UncertaintyHeadVerifier, online: UncertaintyHeadVerifier, writer: LocalLanguageModel
) -> None:
    blank = Completion(
        "\n\n",
        StopCause.STOP,
        tokens=2,
        ids=tuple(writer.loaded.vocabulary.encode("\n\n")),
        logprobs=(-1.0, -1.0),
        entropies=(1.0, 1.0),
        margins=(1.0, 1.0),
        hidden={layer: torch.zeros(2, 64) for layer in online.needs_layers},
    )
    subject = Subject(
        key=SubjectKey(trace_digest="x", granularity=Granularity.STEP, position=0), problem=PROBLEM, text="\n\n"
    )
    online.offer(subject.key, blank, writer=writer.identity)
    for verifier in (judge, online):
        (verdict,) = verifier.check([subject])
        assert (verdict.outcome, verdict.reason) == (Outcome.ABSTAIN, "empty_step")


def test_hostile_steps_are_abstentions_and_stop_nobody_else(judge: UncertaintyHeadVerifier) -> None:
    (good,) = step_subjects(Trace(problem=PROBLEM, steps=(Step(text="so ok 12."),)))
    texts = ["a" * 10_000, "\ud800", "\x00", " ", "<|end|>" * 3]
    given = [good, *(good.model_copy(update={"text": text}) for text in texts), good]
    verdicts = run_verifier(judge, given, log=Log())
    assert [verdict.reason for verdict in verdicts[1:4]] == ["context_too_long", "unreadable_text", "empty_step"]
    assert all(verdict.outcome is not Outcome.ERROR for verdict in verdicts)
    assert verdicts[0].score == pytest.approx(verdicts[-1].score)
    assert len(texts[0]) > CONTEXT


def test_an_offer_replaces_an_earlier_one_and_old_ones_are_forgotten(
    trained_folder: Path, made: Completion, writer: LocalLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judging, "MOST_OFFERS", 2)
    verifier = UncertaintyHeadVerifier(str(trained_folder))
    trace = Trace(problem=PROBLEM, steps=tuple(Step(text=made.text) for _ in range(3)))
    keys = list(step_subjects(trace))
    verifier.offer(keys[0].key, made, writer="nobody")
    verifier.offer(keys[0].key, made, writer=writer.identity)
    assert verifier.check(keys[:1])[0].score is not None
    for subject in keys[1:]:
        verifier.offer(subject.key, made, writer=writer.identity)
    assert verifier.check(keys)[0].reason == "no_internals"
    assert all(verdict.score is not None for verdict in verifier.check(keys)[1:])


def test_a_score_at_the_threshold_is_accepted(trained_folder: Path, ascii_folder: Path) -> None:
    (subject,) = step_subjects(Trace(problem=PROBLEM, steps=(Step(text="so ok 12."),)))
    score = UncertaintyHeadVerifier(str(trained_folder), str(ascii_folder)).check([subject])[0].score
    assert score is not None
    at = UncertaintyHeadVerifier(str(trained_folder), str(ascii_folder), threshold=score)
    assert at.check([subject])[0].outcome is Outcome.ACCEPT
    above = UncertaintyHeadVerifier(str(trained_folder), str(ascii_folder), threshold=min(1.0, score + 1e-3))
    assert above.check([subject])[0].outcome is Outcome.REJECT
    with pytest.raises(UsageError, match="threshold"):
        UncertaintyHeadVerifier(str(trained_folder), threshold=float("nan"))


def test_a_name_and_arguments_make_it_again(
    judge: UncertaintyHeadVerifier, trained_folder: Path, ascii_folder: Path
) -> None:
    again = create_verifier("uncertainty-head", {"head": str(trained_folder), "model": str(ascii_folder)})
    assert identity(again) == identity(judge)
    assert identity(create_verifier(judge.name, judge.arguments)) == identity(judge)
    written = parse_verifier(f"uncertainty-head:head={trained_folder},threshold=0.7")
    assert dict(written.arguments) == {"head": str(trained_folder), "model": None, "threshold": 0.7}
    assert identity(written) != identity(judge)
