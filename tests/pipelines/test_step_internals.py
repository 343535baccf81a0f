"""Steps judged by what their writer knew while it wrote them: online in the graph, and the same as read later."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.pocket.evaluation import held_out_problems
from draftproof.language_model import Request
from draftproof.pipelines.arbitrage import create_arbitrage
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Outcome
from draftproof.verifiers.pocket_step import PocketStepVerifier
from draftproof.verifiers.uncertainty_head.baselines import MeanLogprobVerifier
from tests.pipelines.scripted import Log

PROBLEMS = [each.text for each in held_out_problems(6)]


@pytest.fixture(scope="module")
def draft() -> LocalLanguageModel:
    return LocalLanguageModel("pocket-draft")


@pytest.fixture(scope="module")
def target() -> LocalLanguageModel:
    return LocalLanguageModel("pocket-target")


def test_the_drafts_steps_are_judged_online_and_as_they_would_be_read(
    draft: LocalLanguageModel, target: LocalLanguageModel
) -> None:
    log = Log()
    judge = MeanLogprobVerifier("pocket-draft", threshold=0.93)
    graph = create_arbitrage(draft, target, policy="rsd", verifier=judge, threshold=0.93, log=log)
    with ThreadPoolExecutor(3) as pool:
        outputs = list(pool.map(lambda text: graph.invoke({"problem": text}), PROBLEMS))
    said = {verdict.subject: verdict for verdict in log if verdict.verifier.startswith("mean-logprob@")}
    assert {verdict.raw["mode"] for verdict in said.values()} == {"online"}
    assert {verdict.outcome for verdict in said.values()} == {Outcome.ACCEPT, Outcome.REJECT}
    reader = MeanLogprobVerifier("pocket-draft", threshold=0.93)
    for output in outputs:
        for place, step in enumerate(output["steps"]):
            drafted = step if step["role"] == "draft" else step["discarded"]
            assert drafted is not None
            key = SubjectKey(trace_digest=output["opening"], granularity=Granularity.STEP, position=place)
            earlier = tuple(each["text"] for each in output["steps"][:place])
            subject = Subject(key=key, problem=output["problem"], text=drafted["text"], context=earlier)
            (read,) = reader.check([subject])
            assert read.raw["mode"] == "reader"
            assert read.score == pytest.approx(said[key].score, abs=1e-4)


def test_what_another_model_wrote_is_read(draft: LocalLanguageModel, target: LocalLanguageModel) -> None:
    log = Log()
    judge = MeanLogprobVerifier("pocket-target")
    graph = create_arbitrage(draft, target, policy="oracle", verifier=judge, log=log)
    graph.invoke({"problem": PROBLEMS[0]})
    modes = [verdict.raw["mode"] for verdict in log if verdict.verifier.startswith("mean-logprob@")]
    assert set(modes) == {"online", "reader"}


def test_states_are_asked_for_only_by_those_who_look_at_them(
    draft: LocalLanguageModel, target: LocalLanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Request] = []
    generate = LocalLanguageModel.generate

    def counted(model: LocalLanguageModel, requests: list[Request]) -> object:
        asked.extend(requests)
        return generate(model, requests)

    class Deep(MeanLogprobVerifier):
        needs_layers = (1,)

    monkeypatch.setattr(LocalLanguageModel, "generate", counted)
    judge = Deep("pocket-draft")
    create_arbitrage(draft, target, policy="rsd", verifier=judge, threshold=0.0, log=Log()).invoke(
        {"problem": PROBLEMS[0]}
    )
    assert {request.hidden_layers for request in asked} == {(1,)}
    asked.clear()
    other = PocketStepVerifier()
    create_arbitrage(draft, target, policy="rsd", verifier=other, log=Log()).invoke({"problem": PROBLEMS[0]})
    assert {request.hidden_layers for request in asked} == {()}
