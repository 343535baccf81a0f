"""Rounds over rows: what is committed, rewound, forced and cut, whatever a drafter proposes."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import Draft, chain, empty_draft, pack
from draftproof.drafting.drafter import Binding, Commit, DrafterSpec, DraftRequest
from draftproof.drafting.model import CachedModel, Pass, RowTokens, Wanted
from draftproof.drafting.policies.fixed import Fixed
from draftproof.drafting.rules.catalogue import create_rule
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.drafting.session import Session
from draftproof.errors import ContextLengthError, ContractError, NumericalError, OutOfMemoryError, UsageError

PROMPT = [5, 17, 44, 8, 9, 23]
OTHER = [71, 3, 3, 60]
SAMPLED = Sampling(temperature=0.9, top_p=0.95, seed=11)


class Scripted:
    """A drafter that answers each row by a function of its committed tokens."""

    def __init__(self, answer: Callable[[list[int], int], tuple[list[int], list[int]]], **spec: Any) -> None:
        self.spec = DrafterSpec("scripted", max_nodes=16, **spec)
        self.answer = answer
        self.tokens: dict[int, list[int]] = {}
        self.events: list[Commit] = []

    def bind(self, binding: Binding) -> None: ...

    def start(self, event: Commit) -> None:
        self.tokens[event.row] = list(event.tokens)
        self.events.append(event)

    def propose(self, request: DraftRequest) -> Draft:
        asked = zip(request.rows, request.budget, strict=True)
        return pack([self.answer(self.tokens[row], budget) for row, budget in asked])

    def commit(self, events: Sequence[Commit]) -> None:
        for event in events:
            self.tokens[event.row].extend(event.tokens)
            assert len(self.tokens[event.row]) == event.length
            self.events.append(event)

    def rewind(self, row: int, length: int) -> None:
        del self.tokens[row][length:]

    def stop(self, rows: Sequence[int]) -> None:
        for row in rows:
            del self.tokens[row]


def oracle(truth: Sequence[int]) -> Scripted:
    """Knows the whole text, prompt included."""
    return Scripted(lambda tokens, budget: chain(list(truth[len(tokens) : len(tokens) + budget])))


def guesser(seed: int) -> Scripted:
    """Random trees, wide and deep, with distinct siblings; sometimes nothing."""
    luck = random.Random(seed)

    def answer(tokens: list[int], budget: int) -> tuple[list[int], list[int]]:
        ids, parents, seen = [], [], set()
        for node in range(luck.randint(0, budget)):
            parent, token = luck.randint(-1, node - 1), luck.randrange(97)
            if parent >= len(ids) or (parent, token) in seen:
                continue
            seen.add((parent, token))
            ids.append(token)
            parents.append(parent)
        return ids, parents

    return Scripted(answer)


def session_of(model: CachedModel, drafter: Any = None, *, length: int = 6, rule: str = "auto") -> Session:
    policy = Fixed(length)
    if drafter is not None:
        policy.bind(None, drafter.spec)
    return Session(model, drafter, create_rule(rule), policy)


def run(
    session: Session, prompts: dict[int, list[int]], count: int, sampling: Sampling = GREEDY
) -> dict[int, list[int]]:
    """Output of each row after `count` tokens; rows are left open."""
    outcomes = session.open(prompts, sampling=sampling, max_new_tokens=count, stop_ids=frozenset())
    going = [outcome.row for outcome in outcomes if not outcome.done]
    while going:
        going = [outcome.row for outcome in session.round(going) if not outcome.done]
        for row in prompts:
            assert session.target.length(row) == len(session.rows[row].tokens) - 1
    return {row: session.rows[row].output for row in prompts}


@pytest.fixture
def model(tiny_llama: PreTrainedModel) -> TransformersModel:
    return TransformersModel(tiny_llama)


def greedy_reference(model: PreTrainedModel, prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


def test_plain_rounds_are_greedy_decoding(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    assert run(session_of(model), {0: PROMPT}, 40)[0] == greedy_reference(tiny_llama, PROMPT, 40)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_no_drafter_changes_the_text(model: TransformersModel, sampling: Sampling) -> None:
    plain = run(session_of(model), {0: PROMPT}, 60, sampling)[0]
    for seed in range(8):
        session = session_of(TransformersModel(model._model), guesser(seed))
        assert run(session, {0: PROMPT}, 60, sampling)[0] == plain
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    assert run(session, {0: PROMPT}, 60, sampling)[0] == plain


def test_an_oracle_is_accepted_whole(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 43, SAMPLED)[0]
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    run(session, {0: PROMPT}, 43, SAMPLED)
    assert session.rows[0].rounds == 6  # 42 tokens after prefill, seven a round


def test_a_rule_that_takes_every_draft_would_be_noticed(model: TransformersModel) -> None:
    """The negative control of the two tests above."""
    plain = run(session_of(model), {0: PROMPT}, 30)[0]
    session = session_of(TransformersModel(model._model), guesser(0))
    decide = session.rule.decide

    class Lax:
        spec = session.rule.spec

        def decide(self, verification: Any) -> Any:
            first = verification.draft.n_nodes[0] > 0
            return [dataclasses.replace(each, path=(0,)) if first else each for each in decide(verification)]

    session.rule = Lax()
    assert run(session, {0: PROMPT}, 30)[0] != plain


def test_rows_do_not_depend_on_the_batch(model: TransformersModel) -> None:
    alone = run(session_of(model, guesser(1)), {0: PROMPT}, 50, SAMPLED)[0]
    session = session_of(TransformersModel(model._model), guesser(2))
    together = run(session, {7: OTHER, 0: PROMPT, 3: PROMPT[:3]}, 50, SAMPLED)
    assert together[0] == alone


def test_rows_come_and_go(model: TransformersModel) -> None:
    session = session_of(model, guesser(3))
    alone = [run(session_of(TransformersModel(model._model)), {0: prompt}, 30)[0] for prompt in (PROMPT, OTHER)]
    run(session, {0: PROMPT}, 10)
    session.open({1: OTHER}, max_new_tokens=30, stop_ids=frozenset())
    session.close([0])
    while not session.rows[1].done:
        session.round([1])
    assert session.rows[1].output == alone[1]
    assert run(session, {0: PROMPT}, 30)[0] == alone[0]


@pytest.mark.parametrize("drafter", [None, 4], ids=["plain", "drafted"])
def test_what_is_rewound_is_written_again(model: TransformersModel, drafter: int | None) -> None:
    session = session_of(model, None if drafter is None else guesser(drafter))
    whole = run(session, {0: PROMPT}, 50, SAMPLED)[0]
    for kept in (49, 31, 7, 1):
        session.rewind(0, len(PROMPT) + kept)
        assert session.rows[0].output == whole[:kept]
        while not session.rows[0].done:
            session.round([0])
        assert session.rows[0].output == whole


def test_the_prompt_cannot_be_rewound(model: TransformersModel) -> None:
    session = session_of(model)
    run(session, {0: PROMPT}, 5)
    with pytest.raises(UsageError, match="the prompt"):
        session.rewind(0, len(PROMPT))


def test_forced_tokens_are_as_if_the_model_had_said_them(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    session = session_of(model, guesser(5))
    session.open({0: PROMPT}, max_new_tokens=40, stop_ids=frozenset())
    session.round([0])
    session.force(0, OTHER)
    before = list(session.rows[0].tokens)
    while not session.rows[0].done:
        session.round([0])
    expected = greedy_reference(tiny_llama, before, len(PROMPT) + 40 - len(before))
    assert session.rows[0].tokens == before + expected


def test_a_stop_token_inside_an_accepted_draft_ends_the_row_there(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 30)[0]
    stop = next(token for token in plain[3:] if token not in plain[:3])
    at = plain.index(stop)
    session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
    session.open({0: PROMPT}, stop_ids=frozenset({stop}), max_new_tokens=30)
    while not session.rows[0].done:
        outcome = session.round([0])[0]
    assert session.rows[0].output == plain[: at + 1]
    assert outcome.done
    assert session.target.length(0) == len(PROMPT) + at


def test_the_limit_is_kept_to_the_token(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 60)[0]
    for count in range(1, 12):
        session = session_of(TransformersModel(model._model), oracle([*PROMPT, *plain]))
        assert run(session, {0: PROMPT}, count)[0] == plain[:count]


def test_a_row_ends_where_the_context_does(model: TransformersModel) -> None:
    context = model.info.context_length
    session = session_of(model, guesser(6))
    session.open({0: [7] * (context - 20)}, stop_ids=frozenset())
    while not session.rows[0].done:
        session.round([0])
    assert len(session.rows[0].tokens) == context


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        pytest.param([], UsageError, id="empty"),
        pytest.param([3, 97], UsageError, id="id-out-of-range"),
        pytest.param([3, -1], UsageError, id="negative-id"),
        pytest.param([3] * 512, ContextLengthError, id="longer-than-the-context"),
    ],
)
def test_a_prompt_that_cannot_be_read_opens_no_row(model: TransformersModel, prompt: list[int], error: type) -> None:
    session = session_of(model)
    with pytest.raises(error):
        session.open({0: PROMPT, 1: prompt})
    assert session.rows == {}
    assert run(session, {0: PROMPT}, 3)[0]


@pytest.mark.parametrize(
    ("tree", "said"),
    [
        pytest.param(([97], [-1]), "token 97", id="id-out-of-range"),
        pytest.param(([-2], [-1]), "token -2", id="negative-id"),
        pytest.param(([4, 5], [1, -1]), "hangs under 1", id="parent-after-child"),
        pytest.param(([4], [-2]), "hangs under -2", id="no-such-parent"),
        pytest.param(([4, 4], [-1, -1]), "sibling", id="equal-siblings"),
        pytest.param((list(range(9)), list(range(-1, 8))), "budget", id="too-many-nodes"),
    ],
)
def test_a_broken_draft_is_refused_and_changes_nothing(
    model: TransformersModel, tree: tuple[list[int], list[int]], said: str
) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    drafter = Scripted(lambda tokens, budget: tree)
    session = session_of(TransformersModel(model._model), drafter)
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises(ContractError, match=said):
        session.round([0])
    drafter.answer = lambda tokens, budget: ([], [])
    while not session.rows[0].done:
        session.round([0])
    assert session.rows[0].output == plain


class Narrow(TransformersModel):
    """Runs out of memory on any pass over more than one token after prefill."""

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        if any(each.row >= 0 and self.length(each.row) and len(each.tokens) > 1 for each in batch):
            raise OutOfMemoryError("no room")
        return super().forward(batch, wanted)


def test_a_draft_that_does_not_fit_becomes_a_plain_step(model: TransformersModel) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    assert run(session_of(Narrow(model._model), oracle([*PROMPT, *plain])), {0: PROMPT}, 20)[0] == plain


class Broken(TransformersModel):
    """Its logits hold NaN from some length on."""

    def forward(self, batch: Sequence[RowTokens], wanted: Wanted = Wanted()) -> Pass:  # noqa: B008
        result = super().forward(batch, wanted)
        if result.logits is not None and self.length(batch[0].row) > 10:
            result.logits[:, 40] = float("nan")
        return result


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_logits_that_are_not_numbers_raise(model: TransformersModel, sampling: Sampling) -> None:
    session = session_of(Broken(model._model))
    with pytest.raises(NumericalError):
        run(session, {0: PROMPT}, 30, sampling)


def test_hidden_states_come_to_the_drafter_where_they_predicted_its_tokens(
    model: TransformersModel, tiny_llama: PreTrainedModel
) -> None:
    drafter = Scripted(guesser(7).answer, needs=frozenset({"hidden", "logits"}), hidden_layers=(1, -1))
    session = session_of(model, drafter)
    run(session, {0: PROMPT}, 30)
    tokens = session.rows[0].tokens
    whole = tiny_llama(torch.tensor([tokens]), output_hidden_states=True)
    layer_one, logits = whole.hidden_states[1][0], whole.logits[0]
    at = len(PROMPT)
    for event in drafter.events:
        if event.reason == "prefill":
            torch.testing.assert_close(event.hidden[1], layer_one[: len(PROMPT)], rtol=1e-3, atol=1e-3)
            at += 1
            continue
        count = len(event.tokens)
        torch.testing.assert_close(event.hidden[1], layer_one[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-3)
        normed = tiny_llama.lm_head(tiny_llama.model.norm(event.hidden[-1]))
        torch.testing.assert_close(normed, logits[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-2)
        assert event.logits is not None
        torch.testing.assert_close(event.logits, logits[at - 1 : at - 1 + count], rtol=1e-3, atol=1e-2)
        at += count


def test_logprobs_are_the_models_own(model: TransformersModel, tiny_llama: PreTrainedModel) -> None:
    session = session_of(model, guesser(8))
    outcomes = session.open({0: PROMPT}, sampling=SAMPLED, max_new_tokens=20, stop_ids=frozenset(), logprobs=3)
    while not session.rows[0].done:
        outcomes += session.round([0])
    said = [each for outcome in outcomes for each in outcome.logprobs]
    tokens = session.rows[0].tokens
    reference = torch.log_softmax(tiny_llama(torch.tensor([tokens])).logits[0], -1)
    assert [each.token for each in said] == tokens[len(PROMPT) :]
    for at, each in enumerate(said, start=len(PROMPT) - 1):
        assert each.logprob == pytest.approx(float(reference[at, each.token]), abs=1e-3)
        assert [token for token, _ in each.top] == reference[at].topk(3).indices.tolist()


@pytest.mark.parametrize("forced", [[97], [3, -1], [5] * 600 + [97]], ids=["too-large", "negative", "late"])
def test_what_cannot_be_forced_changes_nothing(model: TransformersModel, forced: list[int]) -> None:
    plain = run(session_of(model), {0: PROMPT}, 20)[0]
    session = session_of(TransformersModel(model._model), guesser(9))
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises((UsageError, ContextLengthError)):
        session.force(0, forced)
    while not session.rows[0].done:
        session.round([0])
    assert session.rows[0].output == plain


def test_forcing_up_to_the_limit_ends_the_row(model: TransformersModel) -> None:
    session = session_of(model, guesser(10))
    session.open({0: PROMPT}, max_new_tokens=5, stop_ids=frozenset())
    session.force(0, OTHER)
    assert session.rows[0].done
    with pytest.raises(UsageError, match="is done"):
        session.round([0])
    session.rewind(0, len(PROMPT) + 2)
    assert len(session.round([0])[0].tokens) >= 1


def test_a_rewound_row_can_be_drawn_anew(model: TransformersModel) -> None:
    session = session_of(model, guesser(11))
    first = run(session, {0: PROMPT}, 40, SAMPLED)[0]
    again = []
    for seed in (None, 1, 2):
        session.rewind(0, len(PROMPT) + 10, seed=seed)
        while not session.rows[0].done:
            session.round([0])
        again.append(session.rows[0].output)
        assert again[-1][:10] == first[:10]
    assert again[0] == first
    assert len({tuple(output) for output in again}) == 3


class Interrupted(Scripted):
    """Stopped by the user while it is told what became of a round."""

    def commit(self, events: Sequence[Commit]) -> None:
        raise KeyboardInterrupt


def test_a_row_that_was_left_half_way_is_not_gone_on_with(model: TransformersModel) -> None:
    session = session_of(model, Interrupted(lambda tokens, budget: ([], [])))
    session.open({0: PROMPT}, max_new_tokens=20, stop_ids=frozenset())
    with pytest.raises(KeyboardInterrupt):
        session.round([0])
    for use in (lambda: session.round([0]), lambda: session.force(0, OTHER), lambda: session.rewind(0, 7)):
        with pytest.raises(UsageError, match="half-way"):
            use()
    session.close([0])
    session.open({0: PROMPT})


class Forgetful(Scripted):
    """Cannot begin a second row."""

    def start(self, event: Commit) -> None:
        if self.tokens:
            raise RuntimeError("one is enough")
        super().start(event)


def test_rows_that_could_not_all_be_opened_leave_nothing(model: TransformersModel) -> None:
    drafter = Forgetful(lambda tokens, budget: ([], []))
    session = session_of(model, drafter)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="one is enough"):
            session.open({0: PROMPT, 1: OTHER})
        assert session.rows == {}
        assert drafter.tokens == {}
    session.open({0: PROMPT})


class Clinging(Forgetful):
    """Nor lets go of the first."""

    def stop(self, rows: Sequence[int]) -> None:
        raise OSError(f"rows {list(rows)} stay")


def test_a_drafter_that_fails_while_it_cleans_up_hides_no_error_and_loses_none(model: TransformersModel) -> None:
    session = session_of(model, Clinging(lambda tokens, budget: ([], [])))
    with pytest.raises(RuntimeError, match="one is enough") as caught:
        session.open({0: PROMPT, 1: OTHER})
    assert caught.value.__notes__ == [
        f"The drafter 'scripted' could not forget row {row}: OSError: rows [{row}] stay" for row in (0, 1)
    ]
    assert session.rows == {}


def test_a_drafter_that_cleans_up_leaves_no_note(model: TransformersModel) -> None:
    class Late(Scripted):
        def start(self, event: Commit) -> None:
            super().start(event)
            if event.row:
                raise RuntimeError("too late")

    with pytest.raises(RuntimeError, match="too late") as caught:
        session_of(model, Late(lambda tokens, budget: ([], []))).open({0: PROMPT, 1: OTHER})
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize("logprobs", [-1, 98])
def test_more_alternatives_than_tokens_are_refused(model: TransformersModel, logprobs: int) -> None:
    with pytest.raises(UsageError, match="logprobs"):
        session_of(model).open({0: PROMPT}, logprobs=logprobs)


def test_rows_that_are_not_open_are_told(model: TransformersModel) -> None:
    session = session_of(model)
    for use in (lambda: session.round([7]), lambda: session.close([7]), lambda: session.rewind(7, 2)):
        with pytest.raises(UsageError, match="Row 7 is not open"):
            use()
    assert session.round([]) == []
    assert session.open({}) == []


@pytest.mark.parametrize("scores", [[float("nan"), 0.1], [0.2, 0.9]], ids=["nan", "child-above-parent"])
def test_scores_that_are_no_probabilities_of_paths_are_refused(model: TransformersModel, scores: list[float]) -> None:
    drafter = Scripted(lambda tokens, budget: ([4, 5], [-1, 0]))
    propose = drafter.propose
    drafter.propose = lambda request: dataclasses.replace(propose(request), score=torch.tensor([scores]))  # type: ignore[method-assign]
    session = session_of(model, drafter)
    session.open({0: PROMPT}, max_new_tokens=9, stop_ids=frozenset())
    with pytest.raises(ContractError, match="score"):
        session.round([0])


def test_a_drafter_out_of_memory_costs_a_plain_step(model: TransformersModel) -> None:
    def starved(tokens: list[int], budget: int) -> tuple[list[int], list[int]]:
        raise MemoryError

    plain = run(session_of(model), {0: PROMPT}, 10)[0]
    assert run(session_of(TransformersModel(model._model), Scripted(starved)), {0: PROMPT}, 10)[0] == plain


def test_a_drafter_that_a_rule_cannot_verify_is_refused(model: TransformersModel) -> None:
    drafter = Scripted(lambda tokens, budget: ([], []), law="reject_wor")
    with pytest.raises(UsageError, match="cannot verify"):
        session_of(model, drafter, rule="token")


def test_empty_drafts_have_no_nodes() -> None:
    assert empty_draft(3).tokens.shape == (3, 0)
