"""The graphs over real models of our engine: tiny, random, with one vocabulary; token for token."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.language_model import Context, Decoding, Request
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.pipelines.glimp_router import create_glimp_router
from draftproof.pipelines.replay import replay
from draftproof.pipelines.spec_reason import create_spec_reason
from draftproof.pipelines.step_features import FEATURES
from draftproof.pipelines.step_state import StepInput, StepOutput, StepSettings
from draftproof.verdict import Proposition
from tests.drafting.language_models.conftest import written_to
from tests.pipelines.scripted import Log, ScriptedJudge

PROBLEM = "Say abc."
GIVEN: StepInput = {"problem": PROBLEM}
TOKENS, LONG = 60, 240
SAMPLED = Decoding(temperature=1.0, top_k=12, seed=11)
SETTINGS = StepSettings(
    separator="S", max_step_tokens=7, max_steps=TOKENS, thinking_tokens=TOKENS, answer_tokens=TOKENS, answer_begins=""
)


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> LocalLanguageModel:
    return LocalLanguageModel(written_to(tmp_path_factory.mktemp("target")), name="target")


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> LocalLanguageModel:
    """Other weights, the same tokenizer."""
    return LocalLanguageModel(written_to(tmp_path_factory.mktemp("draft"), seed=2), name="draft")


def alone(model: LocalLanguageModel, decoding: Decoding = SAMPLED, most: int = TOKENS) -> tuple[str, tuple[int, ...]]:
    """What a model writes at once."""
    (completion,) = model.generate([Request(Context.of(PROBLEM), most, decoding=decoding)])
    return completion.text, completion.ids


def ids(output: StepOutput) -> tuple[int, ...]:
    return tuple(token for step in output["steps"] for token in step["ids"])


def run(graph: Any) -> StepOutput:
    return graph.invoke(GIVEN)  # type: ignore[no-any-return]


REDUCED: list[Any] = [
    pytest.param("draft-only", None, "draft"),
    pytest.param("target-only", None, "target"),
    pytest.param("rsd", math.inf, "target"),
    pytest.param("router", -1.0, "target"),
    pytest.param("oracle", -1.1, "target"),
]


@pytest.mark.parametrize(("policy", "threshold", "role"), REDUCED)
def test_extremes_are_one_model_alone_token_for_token(
    draft: LocalLanguageModel, target: LocalLanguageModel, policy: Any, threshold: float | None, role: str
) -> None:
    proposition = Proposition.TARGET_BETTER if policy == "router" else Proposition.CORRECT
    judge = None if threshold is None else ScriptedJudge(lambda s: len(s.text) % 2 / 1.0, proposition)
    graph = create_arbitrage(
        *(draft, target),
        policy=policy,
        threshold=threshold,
        verifier=judge,
        log=Log(),
        settings=SETTINGS,
        decoding=SAMPLED,
    )
    output = run(graph)
    text, tokens = alone(draft if role == "draft" else target)
    assert len(output["steps"]) > 3
    assert {step["cause"] for step in output["steps"]} >= {"stop", "length"}
    assert output["text"] == text
    assert ids(output) == tokens


@pytest.mark.parametrize(("policy", "threshold"), [("rsd", 0.0), ("router", 1.0), ("oracle", 1.0)])
def test_whole_steps_that_all_are_kept_are_the_drafts_token_for_token(
    draft: LocalLanguageModel, target: LocalLanguageModel, policy: Any, threshold: float
) -> None:
    """None of them is cut: of parts nobody can judge, and the target writes."""
    graph = create_arbitrage(
        *(draft, target),
        policy=policy,
        threshold=threshold,
        verifier=ScriptedJudge(
            lambda s: len(s.text) % 2 / 1.0, Proposition.TARGET_BETTER if policy == "router" else Proposition.CORRECT
        ),
        log=Log(),
        settings=replace(SETTINGS, max_step_tokens=LONG, thinking_tokens=LONG),
        decoding=SAMPLED,
    )
    steps = run(graph)["steps"]
    text, tokens = alone(draft, most=LONG)
    assert len(steps) > 3
    assert {(step["role"], step["cause"]) for step in steps[:-1]} == {("draft", "stop")}
    assert text.startswith("".join(step["text"] for step in steps))
    drafted = tuple(token for step in steps for token in step["ids"])
    assert tokens[: len(drafted)] == drafted


@pytest.mark.parametrize(("threshold", "role"), [(math.inf, "draft"), (0.0, "target")])
@pytest.mark.parametrize("top", [0, 20])
def test_extremes_of_the_glimpse(
    draft: LocalLanguageModel, target: LocalLanguageModel, threshold: float, role: str, top: int
) -> None:
    log = Log()
    graph = create_glimp_router(
        draft, target, threshold=threshold, top=top, log=log, settings=SETTINGS, decoding=SAMPLED
    )
    output = run(graph)
    assert (output["text"], ids(output)) == alone(draft if role == "draft" else target)
    probed = [verdict.raw for verdict in log if "entropy_nats" in verdict.raw]
    assert {raw["of"] for raw in probed} == {top}
    if top:
        assert all(0.0 < raw["entropy_nats"] <= math.log(top) for raw in probed)


def test_the_two_models_differ(draft: LocalLanguageModel, target: LocalLanguageModel) -> None:
    assert alone(draft) != alone(target)


@pytest.mark.parametrize("decoding", [SAMPLED, Decoding()], ids=["sampled", "greedy"])
def test_mixed_texts_can_be_told_again(
    draft: LocalLanguageModel, target: LocalLanguageModel, decoding: Decoding
) -> None:
    common = {"settings": SETTINGS, "decoding": decoding}
    judge = ScriptedJudge(lambda s: len(s.text) % 3 / 2)
    routes = []
    for create, options in [
        (create_arbitrage, {"policy": "rsd", "verifier": judge}),
        (create_arbitrage, {"policy": "collect", "verifier": judge}),
        (create_glimp_router, {"threshold": 2.0}),
        (create_spec_reason, {}),
    ]:
        log = Log()
        output = run(create(draft, target, log=log, **options, **common))  # type: ignore[operator]
        assert replay(log, GIVEN) == output
        assert output["finish"] != "error"
        routes += [step["role"] for step in output["steps"]]
        assert all(set(step["features"]) == set(FEATURES) for step in output["steps"] if step["role"] != "pipeline")
    assert {"draft", "target"} <= set(routes)


def test_a_step_that_is_written_behind_others_reads_little_anew(
    draft: LocalLanguageModel, target: LocalLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contexts are the steps with their ids, so that the model finds what it has read before."""
    target.forget()
    seen: list[tuple[int, int]] = []
    generate = target.generate

    def watched(requests: Any) -> Any:
        completions = generate(requests)
        seen.extend((c.prompt_tokens, c.cached_tokens) for c in completions)
        return completions

    monkeypatch.setattr(target, "generate", watched)
    run(create_arbitrage(draft, target, policy="target-only", log=Log(), settings=SETTINGS, decoding=SAMPLED))
    assert len(seen) > 3
    assert all(prompt - cached <= 1 for prompt, cached in seen[1:])


def test_tokens_that_hold_a_separator_and_more_lose_no_text(
    draft: LocalLanguageModel, target: LocalLanguageModel
) -> None:
    """A step then ends within a token ("abc"): it has no ids, and the text is cut into tokens as a whole."""
    log = Log()
    settings = replace(SETTINGS, separator="b")
    output = run(create_arbitrage(draft, target, policy="target-only", log=log, settings=settings, decoding=SAMPLED))
    within = [step for step in output["steps"] if step["cause"] == "stop" and not step["ids"]]
    assert any(step["text"].endswith("ab") for step in within)
    assert all(step["text"].index("b") == len(step["text"]) - 1 for step in output["steps"] if step["cause"] == "stop")
    assert replay(log, GIVEN) == output


def test_a_full_context_is_no_error(draft: LocalLanguageModel, target: LocalLanguageModel) -> None:
    log = Log()
    settings = StepSettings(thinking_tokens=1000, max_steps=1000, answer_begins="")
    graph = create_arbitrage(draft, target, policy="target-only", log=log, settings=settings, decoding=SAMPLED)
    output = graph.invoke({"problem": "long " * 45})
    assert output["finish"] in ("context", "end")
    assert replay(log, {"problem": "long " * 45}) == output
