"""Baselines: the figures of a plain forward pass, mapped into [0, 1]; and what the model says when it is asked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.models.load import LoadedModel
from draftproof.errors import ContextLengthError, UsageError
from draftproof.language_model import Ability, Completion, Context, FirstToken, LanguageModel, Request, Scored
from draftproof.registry import create_verifier
from draftproof.subject import Subject, step_subjects
from draftproof.trace import Step, Trace
from draftproof.verdict import Guarantee, Outcome, Proposition
from draftproof.verifier import identity
from draftproof.verifiers.uncertainty_head.baselines import FIGURES
from draftproof.verifiers.uncertainty_head.features import StepInternals
from draftproof.verifiers.uncertainty_head.judging import InternalsVerifier
from draftproof.verifiers.uncertainty_head.p_true import PTrueVerifier

PROBLEM = "Add 4 and 5."
STEPS = ("4 + 5 = 9.\n\n", "So 9.")


def subjects() -> list[Subject]:
    return list(step_subjects(Trace(problem=PROBLEM, steps=tuple(Step(text=text) for text in STEPS))))


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_those_of_a_plain_forward_pass(
    name: str, ascii_folder: Path, loaded: LoadedModel, plain_model: PreTrainedModel
) -> None:
    verifier = create_verifier(name, {"model": str(ascii_folder)})
    assert (verifier.proposition, verifier.guarantee) == (Proposition.CORRECT, Guarantee.OPINION)
    ids = torch.tensor(loaded.vocabulary.encode(PROBLEM + "\n\n" + "".join(STEPS)))
    logprobs = torch.log_softmax(plain_model(ids[None]).logits[0].double(), -1)
    begin = len(PROBLEM) + 2
    for text, verdict in zip(STEPS, verifier.check(subjects()), strict=True):
        before = torch.arange(begin - 1, begin - 1 + len(text.rstrip()))
        mean = float(logprobs[before, ids[before + 1]].mean())
        entropy = float(-(logprobs.exp() * logprobs)[before].sum(-1).mean())
        native, value, score = {
            "mean-logprob": ("mean_logprob", mean, math.exp(mean)),
            "perplexity": ("perplexity", math.exp(-mean), math.exp(mean)),
            "token-entropy": ("mean_entropy", entropy, math.exp(-entropy)),
        }[name]
        assert verdict.raw[native] == pytest.approx(value, rel=1e-3)
        assert verdict.score == pytest.approx(score, rel=1e-3)
        assert not verdict.calibrated
        assert verdict.outcome is (Outcome.ACCEPT if score >= 0.5 else Outcome.REJECT)
        begin += len(text)
    assert identity(create_verifier(name, verifier.arguments)) == identity(verifier)


@pytest.mark.parametrize("name", FIGURES)
def test_they_take_offers_as_a_head_does(name: str, ascii_folder: Path, writer: LocalLanguageModel) -> None:
    verifier = create_verifier(name, {"model": str(ascii_folder)})
    assert isinstance(verifier, InternalsVerifier)
    assert verifier.needs_layers == ()
    made = next(
        each
        for each in writer.generate([Request(Context.of(PROBLEM), n, stop=(" ",)) for n in range(5, 30)])
        if each.ids
    )
    (subject,) = step_subjects(Trace(problem=PROBLEM, steps=(Step(text=made.text),)))
    (read,) = verifier.check([subject])
    verifier.offer(subject.key, made, writer=writer.identity)
    (online,) = verifier.check([subject])
    assert (read.raw["mode"], online.raw["mode"]) == ("reader", "online")
    assert online.score == pytest.approx(read.score, rel=1e-3)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-2000.0, 0.0), min_size=1, max_size=8), st.floats(0.0, 20.0))
def test_scores_are_probabilities_whatever_the_figures(logprobs: list[float], entropy: float) -> None:
    count = len(logprobs)
    step = StepInternals(torch.tensor(logprobs), torch.full((count,), entropy), torch.zeros(count))
    for figure in FIGURES.values():
        _, native, score = figure(step)
        assert 0.0 <= score <= 1.0
        assert math.isfinite(native)


def test_surer_is_scored_higher() -> None:
    sure = StepInternals(torch.tensor([-0.1, -0.2]), torch.tensor([0.1, 0.3]), torch.zeros(2))
    unsure = StepInternals(torch.tensor([-0.1, -3.0]), torch.tensor([0.1, 2.0]), torch.zeros(2))
    for figure in FIGURES.values():
        assert figure(sure)[2] > figure(unsure)[2]


# P(True)


@dataclass
class Answering:
    """A language model whose first tokens are written down."""

    top: tuple[tuple[str, float], ...]
    longest: int = 10_000
    abilities: frozenset[Ability] = frozenset(Ability)
    asked: list[str] = field(default_factory=list)
    name: str = "stub"
    identity: str = "stub#0"
    deterministic: bool = True

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        for context in contexts:
            question = context.messages[-1].content
            self.asked.append(question)
            if "\ud800" in question:
                raise UsageError("no text")
            if len(question) > self.longest:
                raise ContextLengthError("too long")
        return [FirstToken(entropy=0.0, of=top, top=self.top, prompt_tokens=7) for _ in contexts]

    def generate(self, requests: Sequence[Request]) -> list[Completion]:
        raise AssertionError("nothing is to be written")

    def score(self, contexts: Sequence[Context], continuations: Sequence[str]) -> list[Scored]:
        raise AssertionError("nothing is to be scored")


@pytest.mark.parametrize(
    ("top", "score", "outcome", "reason"),
    [
        pytest.param((("yes", 0.6), (" No", 0.2), ("x", 0.1)), 0.75, Outcome.ACCEPT, "at_or_above_threshold", id="yes"),
        pytest.param(((" Yes", 0.1), ("YES", 0.1), ("no", 0.6)), 0.25, Outcome.REJECT, "below_threshold", id="no"),
        pytest.param(
            (("Yes", 0.5), ("no", 0.5)), 0.5, Outcome.ACCEPT, "at_or_above_threshold", id="equality-is-accepted"
        ),
        pytest.param((("Nothing", 0.6), ("yesterday", 0.3)), None, Outcome.ABSTAIN, "no_answer", id="no-answer"),
        pytest.param((("yes", 0.2),), None, Outcome.ABSTAIN, "no_answer", id="the-rest-is-unseen"),
        pytest.param((("no", 0.45),), None, Outcome.ABSTAIN, "no_answer", id="the-rest-may-be-yes"),
        pytest.param((("yes", 1e-6),), None, Outcome.ABSTAIN, "no_answer", id="hardly-an-answer"),
        pytest.param((), None, Outcome.ABSTAIN, "no_answer", id="nothing-is-told"),
        pytest.param((("yes", float("nan")),), None, Outcome.ABSTAIN, "no_answer", id="no-number"),
    ],
)
def test_the_answer_s_first_token_decides(
    top: tuple[tuple[str, float], ...], score: float | None, outcome: Outcome, reason: str
) -> None:
    model = Answering(top)
    first, second = PTrueVerifier(model).check(subjects())
    assert (first.score, first.outcome, first.reason) == (pytest.approx(score), outcome, reason)
    assert second.score == first.score
    assert "4 + 5 = 9." in model.asked[1].split("New step:")[0]
    assert "So 9." in model.asked[1].split("New step:")[1]
    assert PROBLEM in model.asked[0]
    assert first.raw["of"] == 20


def test_a_question_that_does_not_fit_is_abstained_from_alone() -> None:
    long, bad = (subjects()[1].model_copy(update={"text": text}) for text in ("x" * 2000, "\ud800"))
    verdicts = PTrueVerifier(Answering((("yes", 1.0),), longest=1000)).check([subjects()[0], long, bad, subjects()[1]])
    assert [each.reason for each in verdicts[1:3]] == ["context_too_long", "unreadable_text"]
    assert [each.score for each in verdicts] == [1.0, None, None, 1.0]


def test_a_model_that_tells_no_first_token_is_refused() -> None:
    with pytest.raises(UsageError, match="distribution of the first token"):
        PTrueVerifier(Answering((), abilities=frozenset({Ability.LOGPROBS})))
    with pytest.raises(UsageError, match="threshold"):
        PTrueVerifier(Answering(()), threshold=2.0)


def test_a_local_model_is_asked(tiny_chat_folder: Path) -> None:
    verifier = create_verifier("p-true", {"model": str(tiny_chat_folder)})
    assert isinstance(verifier, PTrueVerifier)
    assert dict(verifier.arguments)["model"] == str(tiny_chat_folder)
    (subject,) = step_subjects(Trace(problem="?", steps=(Step(text="a"),)))
    (verdict,) = verifier.check([subject])
    assert verdict.reason in ("context_too_long", "no_answer")  # it speaks bytes, at random
    stub: LanguageModel = Answering(())
    assert identity(PTrueVerifier(stub)) != identity(verifier)
