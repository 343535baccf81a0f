"""One token tells who writes a step, and the target writes the answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from draftproof.errors import UsageError
from draftproof.language_model import Ability, Context, FirstToken
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.step_state import StepOutput, StepSettings
from draftproof.subject import Granularity
from draftproof.verdict import ErrorEvidence, Outcome, Proposition, RouteEvidence
from tests.pipelines.scripted import Log, ScriptedModel, steps

DRAFT = steps("So 1+1=2.", "Now 2+1=3.", "The answer is 3.")
TARGET = steps("Then 1+1=2.", "Then 2+1=3.", "The answer is three.")


def run(
    entropies: tuple[float, ...] = (),
    *,
    draft: ScriptedModel | None = None,
    target: ScriptedModel | None = None,
    log: Log | None = None,
    **options: Any,
) -> StepOutput:
    graph = create_glimp_router(
        draft or ScriptedModel(DRAFT, "draft", entropies=entropies),
        target or ScriptedModel(TARGET, "target"),
        log=Log() if log is None else log,
        **options,
    )
    return graph.invoke({"problem": "What is 1+1+1?"})  # type: ignore[return-value]


def roles(output: StepOutput) -> list[str]:
    return [step["role"] for step in output["steps"]]


def test_hard_steps_and_the_answer_are_the_targets() -> None:
    target = ScriptedModel(TARGET, "target")
    log = Log()
    output = run((0.1, 2.0, 0.1), target=target, log=log)
    assert output["text"] == DRAFT[0] + TARGET[1] + TARGET[2]
    assert roles(output) == ["draft", "target", "target"]
    assert [step["route"] and step["route"]["reason"] for step in output["steps"]] == [
        "first_token_certain", "first_token_uncertain", "final_answer",
    ]  # fmt: skip
    assert len(target.requests) == 2, "a delegated step does not call the target"
    assert output["counts"]["probe_calls"] == 3
    assert output["counts"]["judge_calls"] == 0
    assert output["seconds"]["probe"] == 0.75
    discarded = output["steps"][2]["discarded"]
    assert discarded is not None, "the draft's answer is told and not kept"
    assert discarded["text"] == DRAFT[2]
    probe = log.of(Granularity.ROUTE)[1]
    assert (probe.proposition, probe.outcome) == (Proposition.EASY, Outcome.REJECT)
    assert probe.score == pytest.approx(1 - 2.0 / math.log(20))
    assert probe.raw["entropy_nats"] == 2.0
    assert probe.raw["of"] == 20, "entropies of 20 and of all tokens are different numbers"
    assert probe.evidence == (RouteEvidence(policy="glimpse", to="target", score=2.0, threshold=1.0),)
    assert probe.lossless is False


@pytest.mark.parametrize(
    ("entropy", "threshold", "role"),
    [
        pytest.param(1.0, 1.0, "draft", id="equality-delegates"),
        pytest.param(math.nextafter(1.0, 2.0), 1.0, "target", id="just-above"),
        pytest.param(0.0, 0.0, "draft", id="certain-at-zero"),
        pytest.param(1e-9, 0.0, "target", id="all-else-at-zero"),
        pytest.param(math.log(20), 3.0, "draft", id="above-ln-20-everything"),
        pytest.param(math.log(20), 2.99, "target", id="uniform-over-20"),
    ],
)
def test_the_threshold(entropy: float, threshold: float, role: str) -> None:
    assert roles(run((entropy,), threshold=threshold))[0] == role


def test_the_token_of_the_probe_is_used_nowhere() -> None:
    draft, target = ScriptedModel(DRAFT, "draft", top=(("XYZ", 0.9), ("ZYX", 0.1))), ScriptedModel(TARGET, "target")
    output = run(draft=draft, target=target)
    contexts = [request.context for request in [*draft.requests, *target.requests]]
    assert not any("XYZ" in context.text for context in [*contexts, *draft.probes])
    assert "XYZ" not in output["text"]
    assert len(draft.probes) == 3, "one glimpse a step"
    assert [len(context.written) for context in draft.probes] == [0, 1, 2]
    assert draft.requests[0].context == draft.probes[0], "whoever writes begins where the probe did"


def test_how_many_tokens_the_entropy_is_of_can_be_chosen() -> None:
    draft, log = ScriptedModel(DRAFT, "draft"), Log()
    run(draft=draft, top=0, log=log)
    assert set(draft.tops) == {0}
    assert log.of(Granularity.ROUTE)[0].score is None, "nobody knows how large the entropy could be"
    assert log.of(Granularity.ROUTE)[0].raw["of"] == 0


@pytest.mark.parametrize(
    ("broken", "reason", "outcome"),
    [
        pytest.param({"probe_fails": True}, "probe_failed", Outcome.ERROR, id="raises"),
        pytest.param({"entropies": [math.nan] * 9}, "probe_gave_no_entropy", Outcome.ABSTAIN, id="nan"),
        pytest.param({"entropies": [-1.0] * 9}, "probe_gave_no_entropy", Outcome.ABSTAIN, id="negative"),
    ],
)
def test_a_probe_that_fails_delegates_nothing(broken: dict[str, Any], reason: str, outcome: Outcome) -> None:
    draft, log = ScriptedModel(DRAFT, "draft", **broken), Log()
    output = run(draft=draft, threshold=math.inf, log=log)
    assert output["text"] == "".join(TARGET)
    assert draft.requests == []
    first = log.of(Granularity.ROUTE)[0]
    assert (first.reason, first.outcome) == (reason, outcome)
    assert any(isinstance(item, ErrorEvidence) for item in first.evidence) == (outcome is Outcome.ERROR)


@pytest.mark.parametrize("entropy", [0.0, 0.5])
@pytest.mark.parametrize("threshold", [-math.inf, -1e-9, math.inf])
def test_extremes_are_one_model_alone(threshold: float, entropy: float) -> None:
    """Everything is the target's, or everything the draft's where no answer is told apart."""
    settings = StepSettings(answer_begins="")
    draft, target = ScriptedModel(DRAFT, "draft", entropies=(entropy,) * 9), ScriptedModel(TARGET, "target")
    output = run(draft=draft, target=target, threshold=threshold, settings=settings)
    writer, idle, plan = (target, draft, TARGET) if threshold < 0 else (draft, target, DRAFT)
    assert output["text"] == "".join(plan)
    assert [token for step in output["steps"] for token in step["ids"]] == list(map(ord, "".join(plan)))
    assert idle.requests == []
    alone = ScriptedModel(plan, writer.name)
    create_arbitrage(
        alone, alone, log=Log(), policy="draft-only", settings=settings
    ).invoke({"problem": "What is 1+1+1?"})  # fmt: skip
    assert writer.requests == alone.requests, "it was asked for what one model alone is asked for, and no more"


@pytest.mark.parametrize("threshold", [-math.inf, -0.5])
def test_a_negative_threshold_asks_for_no_probe_and_needs_none(threshold: float) -> None:
    draft, log = ScriptedModel(DRAFT, "draft", abilities=frozenset()), Log()
    output = run(draft=draft, threshold=threshold, log=log)
    assert output["text"] == "".join(TARGET)
    assert (draft.probes, draft.requests, output["counts"]["probe_calls"]) == ([], [], 0)
    assert log.of(Granularity.ROUTE) == []
    assert [step["route"] for step in output["steps"]] == [None] * 3


@pytest.mark.parametrize("entropy", [0.0, 0.5])
def test_at_threshold_0_the_draft_has_what_is_certain(entropy: float) -> None:
    assert roles(run((entropy,) * 9, threshold=0.0))[:2] == ["target" if entropy else "draft"] * 2


@dataclass
class Curt(ScriptedModel):
    """A server that tells few alternatives, whatever it is asked for."""

    tells: tuple[tuple[str, float], ...] = (("So", 0.05),)

    def first_token(self, contexts: Sequence[Context], top: int = 20) -> list[FirstToken]:
        mass = sum(share for _, share in self.tells)
        entropy = -sum(share / mass * math.log(share / mass) for _, share in self.tells)
        return [FirstToken(entropy, len(self.tells), self.tells) for _ in super().first_token(contexts, top)]


FIVE = tuple((text, 0.2) for text in "abcde")


@pytest.mark.parametrize(
    ("tells", "threshold", "delegates"),
    [
        pytest.param((("So", 0.05),), 0.0, False, id="one-of-one-is-no-certainty"),
        pytest.param((("So", 0.05),), math.inf, False, id="one-of-one-at-infinity"),
        pytest.param((("So", 0.5), ("Then", 0.5)), 1.0, False, id="two-have-at-most-0.69"),
        pytest.param((("So", 0.99), ("Then", 0.01)), 0.5, True, id="two-below-what-they-can-have"),
        pytest.param((("So", 0.5), ("Then", 0.5)), 0.5, False, id="two-above"),
        pytest.param(FIVE, 1.7, False, id="five-have-at-most-1.61"),
        pytest.param(FIVE, math.inf, True, id="everything-was-asked-for"),
    ],
)
def test_too_few_alternatives_are_no_certainty(
    tells: tuple[tuple[str, float], ...], threshold: float, delegates: bool
) -> None:
    log = Log()
    output = run(draft=Curt(DRAFT, "draft", tells=tells), threshold=threshold, log=log)
    assert roles(output)[0] == ("draft" if delegates else "target")
    first = log.of(Granularity.ROUTE)[0]
    assert (first.outcome is Outcome.ACCEPT) is delegates
    if len(tells) == 1:
        assert (first.outcome, first.reason) == (Outcome.ABSTAIN, "probe_gave_no_entropy")
        assert first.score is None


def test_an_entropy_of_tokens_that_did_not_come_is_none() -> None:
    """The model says that it is of 20, and told one of them."""
    log = Log()
    assert roles(run(draft=ScriptedModel(DRAFT, "draft", top=(("So", 1.0),)), log=log))[0] == "target"
    assert log.of(Granularity.ROUTE)[0].reason == "probe_gave_no_entropy"


@dataclass
class Server(ScriptedModel):
    """Tells at most some of the tokens, and says so."""

    most_alternatives: int = 5


def test_the_whole_vocabulary_is_not_asked_of_a_server() -> None:
    """Each probe would fail, and every step quietly go to the target."""
    with pytest.raises(UsageError, match=r"tells 5 tokens at most.*Give 2 … 5"):
        run(draft=Server(DRAFT, "draft"), top=0)
    assert roles(run(draft=Server(DRAFT, "draft"), top=5))[0] == "draft"
    assert roles(run(draft=Server(DRAFT, "draft"), top=0, threshold=-1.0))[0] == "target"


@pytest.mark.parametrize("last", ["The answer is 3.", "So \\boxed{3}", "Answer: 3", "Done."])
def test_the_draft_never_writes_the_answer(last: str) -> None:
    output = run(draft=ScriptedModel(steps(*(text.strip() for text in DRAFT[:2]), last), "draft"))
    assert output["text"] == DRAFT[0] + DRAFT[1] + TARGET[2]
    assert output["answer"] == "The answer is three."


def test_the_answer_goes_on_without_glimpses() -> None:
    target = ScriptedModel([*TARGET[:2], "The answer is\n\n", "three\n\n", "indeed."], "target")
    draft = ScriptedModel(DRAFT, "draft")
    output = run(draft=draft, target=target)
    assert output["answer"] == "The answer is\n\nthree\n\nindeed."
    assert [step["route"] is None for step in output["steps"]] == [False, False, False, True, True]
    assert len(draft.probes) == 3


def test_models_that_think_in_tags_are_answered_by_the_target() -> None:
    draft = ScriptedModel(["a\n\n", "b</think>", "draft's answer"], "draft")
    target = ScriptedModel(["A\n\n", "B</think>", "target's answer"], "target")
    output = run(draft=draft, target=target, settings=StepSettings(thinks=True))
    assert output["text"] == "a\n\nb</think>target's answer"
    assert len(draft.probes) == 2


def test_a_draft_that_ends_within_its_thinking_is_closed() -> None:
    draft, target = ScriptedModel(["a\n\n", "b"], "draft"), ScriptedModel(["A\n\n", "B", "", "It is 3."], "target")
    output = run(draft=draft, target=target, settings=StepSettings(thinks=True))
    assert output["text"] == "a\n\nb</think>\n\nIt is 3."
    assert [step["role"] for step in output["steps"]] == ["draft", "draft", "pipeline", "target"]


def test_a_server_without_probabilities_is_refused() -> None:
    silent = ScriptedModel(DRAFT, "server", abilities=frozenset({Ability.LOGPROBS}))
    with pytest.raises(UsageError, match="server gives none"):
        create_glimp_router(silent, ScriptedModel(TARGET), log=Log())


@pytest.mark.parametrize("wrong", [{"threshold": math.nan}, {"threshold": "1"}, {"top": -1}, {"top": 1}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        create_glimp_router(ScriptedModel(DRAFT), ScriptedModel(TARGET), log=Log(), **wrong)


def test_a_draft_model_that_fails_ends_the_text() -> None:
    log = Log()
    output = run(draft=replace(ScriptedModel(DRAFT, "draft"), fails_at=1), log=log)
    assert (output["finish"], output["text"]) == ("error", DRAFT[0])
    assert output["undecided"] is not None
    assert output["undecided"]["written"] == []
    assert output["counts"]["probe_calls"] == 2
