"""Token blocks as verdicts in a real store: complete, told apart, and written once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from draftproof.drafting.generation import Block, FinishReason, Generation
from draftproof.drafting.model import ModelInfo
from draftproof.drafting.rounds import RowRound
from draftproof.drafting.sampling import Sampling
from draftproof.drafting.verdicts import trace_of, verdicts_of
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity
from draftproof.verdict import AcceptanceEvidence, Guarantee, Outcome

MODEL = ModelInfo(
    "tiny", "LlamaForCausalLM", 97, 64, 2, 512, frozenset({2}), torch.device("cpu"), torch.float32, "transformers", "d1"
)


def round_of(index: int, *, drafted: int, accepted: int, lossless: bool = True) -> RowRound:
    return RowRound(
        row=0, index=index, position=6 + index, drafter="scripted" if drafted else "none", law="match", rule="match",
        lossless=lossless, drafted=drafted, depth=drafted, accepted=accepted, emitted=accepted + 1, score=None,
        draft_ms=0.5, verify_ms=30.0,
    )  # fmt: skip


def generation(*, lossless: bool = True, **changed: Any) -> Generation:
    blocks = (
        Block("So", (5,), None),
        Block(" it", (6,), round_of(0, drafted=0, accepted=0)),
        Block(" is as they", (7, 8, 9), round_of(1, drafted=2, accepted=2, lossless=lossless)),
        Block(" say,", (10, 11), round_of(2, drafted=3, accepted=1, lossless=lossless)),
        Block(" no", (12,), round_of(3, drafted=3, accepted=0, lossless=lossless)),
    )
    facts: dict[str, Any] = {
        "prompt": (1, 2, 3, 4, 5, 6),
        "tokens": tuple(token for block in blocks for token in block.tokens),
        "text": "".join(block.text for block in blocks),
        "finish_reason": FinishReason.LENGTH,
        "blocks": blocks,
        "sampling": Sampling(),
        "model": MODEL,
        "parts": {"drafter": "scripted", "rule": "match", "policy": "fixed"},
        "configuration": {"drafter": "scripted", "rule": "match", "policy": "fixed", "fingerprint": {}},
    }
    return Generation(**(facts | changed))


def test_each_block_says_what_became_of_its_draft() -> None:
    made = generation()
    verdicts = verdicts_of(made, trace_of(made, "Is it?"))
    assert [(v.outcome, v.reason) for v in verdicts] == [
        (Outcome.ABSTAIN, "prefill"),
        (Outcome.ABSTAIN, "nothing_drafted"),
        (Outcome.ACCEPT, "draft_accepted"),
        (Outcome.REJECT, "draft_partly_accepted"),
        (Outcome.REJECT, "draft_rejected"),
    ]
    evidence = [v.evidence[0] for v in verdicts]
    assert all(isinstance(each, AcceptanceEvidence) for each in evidence)
    assert [each.start for each in evidence] == [6, 7, 8, 11, 13]  # type: ignore[union-attr]
    assert [each.accepted for each in evidence] == [0, 0, 2, 1, 0]  # type: ignore[union-attr]
    assert verdicts[2].cost.wall_seconds == pytest.approx(0.0305)


def test_lossy_rules_are_marked_in_every_verdict() -> None:
    made = generation(lossless=False)
    verdicts = verdicts_of(made, trace_of(made, "Is it?"))
    assert [v.lossless for v in verdicts[2:]] == [False] * 3
    assert {v.guarantee for v in verdicts[2:]} == {Guarantee.OPINION}
    exact = generation()
    assert {v.guarantee for v in verdicts_of(exact, trace_of(exact, "Is it?"))} == {Guarantee.EXACT}


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"sampling": Sampling(temperature=0.5)}, id="sampling"),
        pytest.param({"configuration": {"drafter": "other"}}, id="drafter"),
        pytest.param({"configuration": {"drafter": "scripted", "fingerprint": {"model": "d2"}}}, id="draft-model"),
        pytest.param({"configuration": {"rule": "TypicalRule(epsilon=0.2, delta=0.3)"}}, id="arguments-of-the-rule"),
    ],
)
def test_verdicts_of_another_configuration_are_another_verifiers(changed: dict[str, Any]) -> None:
    made, other = generation(), generation(**changed)
    mine = verdicts_of(made, trace_of(made, "Is it?"))[0].verifier
    assert mine != verdicts_of(other, trace_of(other, "Is it?"))[0].verifier


def test_the_store_keeps_every_block_once(tmp_path: Path) -> None:
    made = generation()
    trace = trace_of(made, "Is it?")
    with VerdictStore.open(f"sqlite:///{tmp_path / 'v.db'}") as store:
        for added in (5, 0):
            run = store.begin_run("generate")
            store.add_traces(run.id, [trace])
            assert store.add(verdicts_of(made, trace), run.id).inserted == added
            store.finish_run(run.id)
        kept = list(store.iter_verdicts())
        assert [v.subject.position for v in kept] == list(range(5))
        assert {v.subject.granularity for v in kept} == {Granularity.TOKEN_BLOCK}
        first = store.runs()[-1]
        counts = store.conservation(first.id)
        assert sum(each.accepted + each.rejected + each.abstained for each in counts) == 5
        text = "".join(step.text for step in store.get_trace(trace.digest).trace.steps)
    assert text == made.text


def test_seeds_that_json_cannot_hold_are_told_apart_too(tmp_path: Path) -> None:
    """Prompts of a list have seeds of 63 bits."""
    seeds = (2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1)
    made = [generation(sampling=Sampling(temperature=1.0, seed=seed)) for seed in seeds]
    traces = [trace_of(each, "Is it?") for each in made]
    assert [trace.meta["sampling"]["seed"] for trace in traces] == [seeds[0], *map(str, seeds[1:])]
    identities = {verdicts_of(each, trace)[0].verifier for each, trace in zip(made, traces, strict=True)}
    assert len(identities) == len(seeds)
    store = VerdictStore.open(f"sqlite:///{tmp_path}/v.db")
    run = store.begin_run("large seeds")
    for each, trace in zip(made, traces, strict=True):
        store.add_traces(run.id, [trace])
        store.add(verdicts_of(each, trace), run.id)
    store.finish_run(run.id)
