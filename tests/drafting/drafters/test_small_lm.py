"""A small draft model: its law, its cache, and what it refuses. The contract tests hold the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.distributions import draw_distinct, draw_from_probs
from draftproof.drafting.draft import Draft, QTable
from draftproof.drafting.drafter import Binding, Commit, DraftRequest, StepSignal
from draftproof.drafting.drafters.small_lm import SmallLM
from draftproof.drafting.keyed_rng import KeyedRng, Purpose
from draftproof.drafting.model import CachedModel, ModelInfo, Pass, RowTokens, Wanted
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import NumericalError, UsageError
from tests.drafting.drafters.decoding import (
    BACKENDS,
    IMPROBABLE,
    Wrap,
    decode,
    next_law,
    pair_law_chance,
    random_prompts,
    session_of,
)

PROMPT = [5, 17, 44, 8, 9, 23]
TREE = {"max_depth": 2, "width": 3, "beam": 2}
WARM = Sampling(temperature=0.9, seed=3)


class Counting:
    """A model that notes how many tokens each pass feeds."""

    def __init__(self, model: CachedModel) -> None:
        self.model = model
        self.fed: list[list[int]] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self.model, name)

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        self.fed.append([len(each.tokens) for each in batch])
        return self.model.forward(batch, wanted)


@pytest.fixture
def target(tiny_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_llama)


@pytest.fixture
def draft_model(tiny_draft_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_draft_llama)


def request(rows: Sequence[int], budget: int, sampling: Sequence[Sampling], **more: object) -> DraftRequest:
    rng = tuple(KeyedRng(each.seed) for each in sampling)
    return DraftRequest(tuple(rows), (budget,) * len(rows), tuple(sampling), rng, **more)  # type: ignore[arg-type]


def started(drafter: SmallLM, target: CachedModel, rows: Sequence[int] = (0,), text: Sequence[int] = PROMPT) -> SmallLM:
    drafter.bind(Binding(target, None))
    for row in rows:
        drafter.start(Commit(row, tuple(text), (), len(text), reason="prefill"))
    return drafter


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param({}, id="chain"),
        pytest.param({"max_depth": 3, "width": 3, "beam": 2}, id="tree"),
        pytest.param({"law": "match", "max_depth": 3, "width": 3, "beam": 2}, id="most-probable-tree"),
    ],
)
@pytest.mark.parametrize("wrap", BACKENDS)
def test_greedy_text_is_that_of_plain_decoding(
    tiny_llama: PreTrainedModel, tiny_draft_llama: PreTrainedModel, wrap: Wrap, shape: dict[str, object]
) -> None:
    prompts = random_prompts(20)
    plain = decode(session_of(wrap(tiny_llama), None), prompts, 24)
    drafter = SmallLM(wrap(tiny_draft_llama), **shape)  # type: ignore[arg-type]
    assert decode(session_of(wrap(tiny_llama), drafter), prompts, 24) == plain


@pytest.mark.parametrize(
    ("rule", "shape"),
    [
        pytest.param("block", {"temperature": 0.7}, id="block"),
        pytest.param("token", {}, id="token", marks=pytest.mark.slow),
        pytest.param("recursive", TREE, id="recursive"),
        pytest.param("multi-draft", TREE | {"siblings": "best"}, id="multi-draft"),
        pytest.param("match", TREE, id="match", marks=pytest.mark.slow),
    ],
)
def test_sampled_text_follows_the_targets_law(
    target: TransformersModel, draft_model: TransformersModel, rule: str, shape: dict[str, object]
) -> None:
    drafter = SmallLM(draft_model, **shape)  # type: ignore[arg-type]
    assert pair_law_chance(session_of(target, drafter, length=5, rule=rule), PROMPT, 320) > IMPROBABLE


class Untruthful(SmallLM):
    """Reports the uniform law, whatever it drew from."""

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        assert draft.q is not None
        return replace(draft, q=QTable(torch.full_like(draft.q.probs, 1 / 97), draft.q.of))


def test_a_false_law_is_found(target: TransformersModel, draft_model: TransformersModel) -> None:
    session = session_of(target, Untruthful(draft_model), length=2, rule="token")
    assert pair_law_chance(session, PROMPT, 320) < IMPROBABLE


def test_its_own_copy_of_the_target_is_accepted_whole(target: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    session = session_of(target, SmallLM(TransformersModel(tiny_llama)), length=5)
    for sampling in (GREEDY, WARM):
        session.open({0: PROMPT}, sampling=sampling, stop_ids=frozenset())
        for _ in range(4):
            (outcome,) = session.round([0])
            assert outcome.record is not None
            assert outcome.record.accepted == 5
        session.close([0])


def test_accepted_tokens_are_never_computed_twice(target: TransformersModel, draft_model: TransformersModel) -> None:
    model = Counting(draft_model)
    drafter = started(SmallLM(model), target)  # type: ignore[arg-type]
    draft = drafter.propose(request([0], 4, [GREEDY]))
    assert model.fed == [[6], [1], [1], [1]]
    accepted = draft.tokens[0].tolist()

    drafter.commit([Commit(0, (*accepted, 3), (0, 1, 2, 3), 11)])
    model.fed.clear()
    draft = drafter.propose(request([0], 2, [GREEDY]))
    assert model.fed == [[2], [1]], "the last drafted token, never fed, and the bonus token"

    drafter.commit([Commit(0, (int(draft.tokens[0, 0]), 4), (0,), 13)])
    model.fed.clear()
    drafter.propose(request([0], 1, [GREEDY]))
    assert model.fed == [[1]], "only the correction"


def test_accepted_paths_of_trees_are_kept_too(target: TransformersModel, draft_model: TransformersModel) -> None:
    drafter = started(SmallLM(draft_model, max_depth=3, width=3, beam=2), target)
    draft = drafter.propose(request([0], 12, [WARM]))
    tokens, parents = draft.tree(0)
    inner = next(parent for parent in parents if parent > 0 and parents[parent] < 0)
    leaf = next(node for node, parent in enumerate(parents) if parent == inner and node not in parents)
    drafter.commit([Commit(0, (tokens[inner], tokens[leaf], 3), (inner, leaf), 9)])
    assert draft_model.length(0) == 7, "the prompt and the expanded node; the leaf was never fed"

    fresh = started(
        SmallLM(TransformersModel(draft_model._model)), target, text=[*PROMPT, tokens[inner], tokens[leaf], 3]
    )
    again = SmallLM(draft_model)
    again._cache, again._texts = drafter._cache, drafter._texts
    assert again.propose(request([0], 5, [GREEDY])).tree(0) == fresh.propose(request([0], 5, [GREEDY])).tree(0)


def test_greedy_and_sampled_rows_share_a_batch(target: TransformersModel, draft_model: TransformersModel) -> None:
    drafter = started(SmallLM(draft_model), target, rows=(0, 1))
    draft = drafter.propose(request([0, 1], 4, [GREEDY, WARM]))
    assert draft.law == "reject"
    assert draft.q is not None
    of = draft.q.probs[0][draft.q.of[0]]
    assert of.gather(-1, draft.tokens[0].unsqueeze(-1)).tolist() == [[1.0]] * 4, (
        "an arg-max is drawn from a one-hot law"
    )
    alone = drafter.propose(request([0], 4, [GREEDY]))
    assert (alone.law, alone.q, alone.tree(0)) == ("match", None, draft.tree(0))


def test_draws_are_keyed_by_the_tokens_place_and_the_round(
    target: TransformersModel, draft_model: TransformersModel
) -> None:
    """Another round drafts the same place with other numbers: rules may have looked at those of this one."""
    draft = started(SmallLM(draft_model), target).propose(request([0], 4, [WARM]))
    assert draft.q is not None
    for node, token in enumerate(draft.tree(0)[0]):
        at = (KeyedRng(WARM.seed), Purpose.DRAFT, len(PROMPT) + node)
        assert draw_from_probs(draft.q.probs[0, node], *at, lane=node) == token


@pytest.mark.parametrize("siblings", ["drawn", "best"])
def test_every_node_of_a_tree_is_drawn_from_the_draft_models_law_after_its_parent(
    target: TransformersModel, draft_model: TransformersModel, siblings: Literal["drawn", "best"]
) -> None:
    drafter = started(SmallLM(draft_model, max_depth=3, width=3, beam=2, siblings=siblings), target)
    draft = drafter.propose(request([0], 15, [WARM]))
    assert draft.q is not None
    tokens, parents = draft.tree(0)
    assert len(tokens) == 15
    for parent in sorted(set(parents)):
        children = [node for node in range(len(tokens)) if parents[node] == parent]
        path: list[int] = []
        at = parent
        while at >= 0:
            path.insert(0, tokens[at])
            at = parents[at]
        law = next_law(target=draft_model, text=[*PROMPT, *path], sampling=WARM)
        (row,) = {int(draft.q.of[0, node]) for node in children}
        torch.testing.assert_close(draft.q.probs[0, row], law, rtol=1e-3, atol=1e-6)
        place = (KeyedRng(WARM.seed), Purpose.DRAFT, len(PROMPT) + len(path), len(path) << 20 | (parent + 1))
        said = [tokens[node] for node in children]
        if siblings == "drawn":
            assert said == draw_distinct(draft.q.probs[0, row], 3, *place)
        else:
            assert said[:2] == law.topk(2).indices.tolist()
            assert said[2:] == draw_distinct(
                draft.q.probs[0, row].index_fill(0, torch.tensor(said[:2]), 0.0), 1, *place
            )


def test_the_draft_temperature_is_a_free_choice(target: TransformersModel, draft_model: TransformersModel) -> None:
    cold = started(SmallLM(draft_model, temperature=0.2), target).propose(request([0], 3, [WARM]))
    warm = started(SmallLM(TransformersModel(draft_model._model)), target).propose(request([0], 3, [WARM]))
    assert cold.q is not None
    assert warm.q is not None
    assert float(cold.q.probs[0, 0].max()) > float(warm.q.probs[0, 0].max())


def test_the_repetition_penalty_is_imitated(target: TransformersModel, draft_model: TransformersModel) -> None:
    drafter = started(SmallLM(draft_model), target)
    free = drafter.propose(request([0], 8, [GREEDY])).tokens[0].tolist()
    banned = drafter.propose(request([0], 8, [Sampling(repetition_penalty=1e6)])).tokens[0].tolist()
    assert len(set(free) & set(PROMPT)) + len(free) - len(set(free)) > 0, "the plain draft repeats something"
    assert len(set(banned)) == len(banned)
    assert not set(banned) & set(PROMPT)


def test_a_policy_ends_a_draft_and_the_token_is_kept(target: TransformersModel, draft_model: TransformersModel) -> None:
    drafter = started(SmallLM(draft_model), target)
    signals: list[StepSignal] = []

    def go_on(signal: StepSignal) -> bool:
        signals.append(signal)
        return signal.step < 3

    draft = drafter.propose(request([0], 8, [GREEDY], go_on=go_on))
    whole = drafter.propose(request([0], 8, [GREEDY]))
    assert draft.tree(0)[0] == whole.tree(0)[0][:3]
    assert [signal.step for signal in signals] == [1, 2, 3]
    assert all(0.0 < signal.top_probability <= 1.0 for signal in signals)
    assert all(signal.hidden is not None and signal.hidden.shape == (64,) for signal in signals)


def test_a_full_context_of_the_draft_model_ends_drafting_not_decoding(
    target: TransformersModel, draft_model: TransformersModel
) -> None:
    class Short(Counting):
        @property
        def info(self) -> ModelInfo:
            return replace(draft_model.info, context_length=20)

        def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
            assert all(draft_model.length(each.row) + each.start + len(each.tokens) <= 20 for each in batch)
            return super().forward(batch, wanted)

    plain = decode(session_of(target, None), {0: PROMPT}, 40)
    assert decode(session_of(target, SmallLM(Short(draft_model))), {0: PROMPT}, 40) == plain  # type: ignore[arg-type]


def test_another_vocabulary_is_refused(target: TransformersModel, draft_model: TransformersModel) -> None:
    class Wider(Counting):
        @property
        def info(self) -> ModelInfo:
            return replace(draft_model.info, vocab_size=98, name="wide")

    with pytest.raises(UsageError, match=r"wide has 98 tokens .* 97.*token-intersection"):
        SmallLM(Wider(draft_model)).bind(Binding(target, None))  # type: ignore[arg-type]

    class Words:
        size = 97
        special_ids: frozenset[int] = frozenset()

        def __init__(self, odd: int | None = None) -> None:
            self.odd = odd

        def token_bytes(self, token: int) -> bytes:
            return b"odd" if token == self.odd else b"%d" % token

        def encode(self, text: str) -> list[int]:
            return []

        def decode(self, ids: Sequence[int]) -> str:
            return ""

    SmallLM(draft_model, vocabulary=Words()).bind(Binding(target, Words()))
    with pytest.raises(UsageError, match=r"Token 41 is b'odd' .* b'41'"):
        SmallLM(draft_model, vocabulary=Words(41)).bind(Binding(target, Words()))


def test_the_target_cannot_draft_on_its_own_rows(target: TransformersModel) -> None:
    with pytest.raises(UsageError, match="rows would collide"):
        SmallLM(target).bind(Binding(target, None))


@pytest.mark.parametrize("options", [{"max_depth": 0}, {"width": 0}, {"beam": 0}, {"temperature": 0.0}])
def test_options_that_make_no_sense_are_refused(draft_model: TransformersModel, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        SmallLM(draft_model, **options)  # type: ignore[arg-type]


def test_logits_that_are_not_numbers_raise(target: TransformersModel, draft_model: TransformersModel) -> None:
    class Broken(Counting):
        def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
            result = self.model.forward(batch, wanted)
            assert result.logits is not None
            return replace(result, logits=result.logits * torch.nan)

    with pytest.raises(NumericalError, match="row 0"):
        started(SmallLM(Broken(draft_model)), target).propose(request([0], 2, [GREEDY]))  # type: ignore[arg-type]
