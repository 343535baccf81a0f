"""Drafting between vocabularies, through shared tokens and through text: lossless, aligned, and worth it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from transformers import PreTrainedModel

from draftproof.drafting.backends.transformers_model import TransformersModel
from draftproof.drafting.draft import Draft, QTable
from draftproof.drafting.drafter import Binding, Commit, Drafter, DraftRequest
from draftproof.drafting.drafters.cross_vocab_text import StringMatch
from draftproof.drafting.drafters.cross_vocab_tokens import TokenIntersection
from draftproof.drafting.drafters.text_align import Tokenization
from draftproof.drafting.keyed_rng import KeyedRng
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.rounds import Totals, totals
from draftproof.drafting.sampling import GREEDY, Sampling
from draftproof.errors import UsageError
from tests.drafting.drafters import contract
from tests.drafting.drafters.contract import CHECKS
from tests.drafting.drafters.contract_life import Subject
from tests.drafting.drafters.decoding import (
    BACKENDS,
    IMPROBABLE,
    Wrap,
    decode,
    pair_law_chance,
    random_prompts,
    session_of,
)
from tests.drafting.drafters.two_vocabularies import TEXT, Reciter, draft_vocabulary, random_llama, target_vocabulary

WARM = Sampling(temperature=0.9, seed=3)


@dataclass(frozen=True)
class Pair:
    """Random models over two tokenizers."""

    words: ByteVocabulary
    """The target's."""
    model: PreTrainedModel
    draft_words: ByteVocabulary
    draft_model: PreTrainedModel

    def target(self) -> TransformersModel:
        return TransformersModel(self.model, name="target")

    def drafter(self, kind: type[TokenIntersection] | type[StringMatch], **options: object) -> Drafter:
        return kind(TransformersModel(self.draft_model, name="draft"), self.draft_words, **options)  # type: ignore[arg-type]

    def prompts(self, count: int) -> dict[int, list[int]]:
        """Half of them text, half of them any tokens: broken characters and control tokens included."""
        prompts = random_prompts(count, self.words.size, seed=1)
        ids = self.words.encode(TEXT)
        chance = random.Random(2)
        for row in range(0, count, 2):
            begin = chance.randrange(len(ids) - 20)
            prompts[row] = ids[begin : begin + chance.randrange(1, 20)]
        return prompts


@pytest.fixture(scope="module")
def pair() -> Pair:
    words, draft_words = target_vocabulary(), draft_vocabulary()
    return Pair(words, random_llama(words.size, 0), draft_words, random_llama(draft_words.size, 1))


KINDS = [pytest.param(TokenIntersection, id="tokens"), pytest.param(StringMatch, id="text")]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_the_contract_holds(
    pair: Pair, kind: type[TokenIntersection] | type[StringMatch], check: Callable[[Subject], None]
) -> None:
    check(Subject(lambda: pair.drafter(kind, max_depth=5), pair.target(), pair.words, temperature=0.9))


def test_tokens_follow_the_reported_law(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "LAW_SEEDS", 200)
    contract.check_law(Subject(lambda: pair.drafter(TokenIntersection), pair.target(), pair.words, temperature=0.9))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", BACKENDS)
def test_greedy_text_is_that_of_plain_decoding(
    pair: Pair, kind: type[TokenIntersection] | type[StringMatch], wrap: Wrap
) -> None:
    prompts = pair.prompts(20)
    plain = decode(session_of(wrap(pair.model), None), prompts, 24)
    drafter = kind(wrap(pair.draft_model), pair.draft_words)
    session = session_of(wrap(pair.model), drafter, vocabulary=pair.words)
    assert decode(session, prompts, 24) == plain


def test_sampled_text_through_text_is_that_of_plain_decoding(pair: Pair) -> None:
    """By the law `match` the drafter does not show in the text at all."""
    prompts = pair.prompts(10)
    plain = decode(session_of(pair.target(), None, rule="match"), prompts, 24, WARM)
    session = session_of(pair.target(), pair.drafter(StringMatch), vocabulary=pair.words)
    assert decode(session, prompts, 24, WARM) == plain


@pytest.mark.parametrize("rule", ["block", pytest.param("token", marks=pytest.mark.slow)])
def test_sampled_text_follows_the_targets_law(pair: Pair, rule: str) -> None:
    prompt = pair.words.encode("The treasurer counted")
    session = session_of(pair.target(), pair.drafter(TokenIntersection), vocabulary=pair.words, length=3, rule=rule)
    assert pair_law_chance(session, prompt, 320) > IMPROBABLE


class Scrambled(TokenIntersection):
    """Reports its law in the order of draft ids, as transformers 5.23 does."""

    def propose(self, request: DraftRequest) -> Draft:
        draft = super().propose(request)
        if draft.q is None:
            return draft
        order = self.shared.draft_ids.argsort()
        return replace(draft, q=QTable(draft.q.probs[..., order], draft.q.of, draft.q.ids))


def test_a_scrambled_law_is_found(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contract, "LAW_SEEDS", 200)

    def scrambled() -> Drafter:
        return Scrambled(TransformersModel(pair.draft_model), pair.draft_words)

    with pytest.raises(AssertionError, match="do not follow q"):
        contract.check_law(Subject(scrambled, pair.target(), pair.words, temperature=0.9))


def test_the_law_is_the_draft_models_own_renormalised_on_shared_tokens(pair: Pair) -> None:
    drafter = pair.drafter(TokenIntersection)
    assert isinstance(drafter, TokenIntersection)
    drafter.bind(Binding(pair.target(), pair.words))
    text = pair.words.encode("The coins")
    drafter.start(Commit(0, tuple(text), (), len(text), reason="prefill"))
    draft = drafter.propose(DraftRequest((0,), (1,), (WARM,), (KeyedRng(3),)))
    assert draft.q is not None
    assert draft.q.ids is not None
    assert draft.q.ids.tolist() == drafter.shared.target_ids.tolist()
    context = torch.tensor([drafter._rows[0].draft])
    law = torch.softmax(pair.draft_model(context).logits[0, -1] / 0.9, dim=-1)
    law = law[drafter.shared.draft_ids]
    torch.testing.assert_close(draft.q.probs[0, 0], law / law.sum(), rtol=1e-4, atol=1e-6)


def recite(
    words: ByteVocabulary, drafter: Drafter, said: bytes, begin: int, *, length: int = 4
) -> tuple[list[int], Totals]:
    """What a target that knows `said` by heart writes after its first `begin` tokens, and how drafting went."""
    target = Reciter(words, said)
    session = session_of(target, drafter, vocabulary=words, length=length)
    ids = words.encode(said.decode())
    session.open({0: ids[:begin]}, max_new_tokens=400)
    records = []
    while not session.rows[0].done:
        (outcome,) = session.round([0])
        assert outcome.record is not None
        records.append(outcome.record)
    return session.rows[0].tokens, totals(records)


def test_a_draft_model_that_knows_the_text_is_accepted_through_text(pair: Pair) -> None:
    said = TEXT.encode()
    drafter = StringMatch(Reciter(pair.draft_words, said), pair.draft_words)
    tokens, figures = recite(pair.words, drafter, said, 5)
    assert tokens == [*pair.words.encode(TEXT), 1]
    assert figures.acceptance_rate > 0.75, "a word that the draft ends in is often longer in the text"
    assert figures.acceptance_length > 3.0


class Unaligned(StringMatch):
    """Loses a byte of the text after each round."""

    def _append(self, row: object, tokens: Sequence[int]) -> None:
        super()._append(row, tokens)  # type: ignore[arg-type]
        del row.stream[-2:]  # type: ignore[attr-defined]
        row.ends[-1] = len(row.stream)  # type: ignore[attr-defined]


def test_a_drafter_that_loses_its_place_is_noticed(pair: Pair) -> None:
    said = TEXT.encode()
    drafter = Unaligned(Reciter(pair.draft_words, said), pair.draft_words)
    tokens, figures = recite(pair.words, drafter, said, 5)
    assert tokens == [*pair.words.encode(TEXT), 1], "what is drafted never shows in the text"
    assert figures.acceptance_rate < 0.3


def test_between_equal_vocabularies_nothing_is_lost(pair: Pair) -> None:
    """But for tokens that begin with one character's last bytes and end with another's first: 5 of 125."""
    said = TEXT.encode()
    drafter = StringMatch(Reciter(pair.words, said), pair.words)
    _, figures = recite(pair.words, drafter, said, 5)
    assert figures.acceptance_rate > 0.95
    assert figures.acceptance_length > 4.5


def test_shared_tokens_of_a_draft_model_that_knows_the_text_are_accepted(pair: Pair) -> None:
    """The target cuts the text in its own way, so that a shared token is right only where both cut alike."""
    said = b"the coins and the coffee counted; " * 6
    drafter = TokenIntersection(Reciter(pair.draft_words, said), pair.draft_words)
    tokens, figures = recite(pair.words, drafter, said, 2)
    assert tokens == [*pair.words.encode(said.decode()), 1]
    assert figures.accepted > 0


def test_the_ends_of_text_are_paired_by_how_they_are_written(pair: Pair) -> None:
    for kind in (TokenIntersection, StringMatch):
        said = b"The coffee was cold."
        drafter = kind(Reciter(pair.draft_words, said), pair.draft_words)
        drafter.bind(Binding(Reciter(pair.words, said), pair.words))
        text = pair.words.encode(said.decode())
        drafter.start(Commit(0, tuple(text), (), len(text), reason="prefill"))
        draft = drafter.propose(DraftRequest((0,), (3,), (GREEDY,), (KeyedRng(0),)))
        assert draft.tree(0)[0][:1] == [1], "<|end|> is token 1 here and there"


def test_a_character_that_has_begun_is_finished_or_not_drafted_at_all(pair: Pair) -> None:
    said = "coins 🙂 and coffee".encode()
    cut = said.index("🙂".encode()) + 1
    text = [token for byte in said[:cut] for token in Tokenization(pair.words, {}).encode([byte]).ids]
    knows = StringMatch(Reciter(pair.draft_words, said), pair.draft_words)
    (word,) = pair.draft_words.encode(" coins")
    strays = StringMatch(Reciter(pair.draft_words, b"another text", lost=word), pair.draft_words)
    for drafter in (knows, strays):
        drafter.bind(Binding(pair.target(), pair.words))
        drafter.start(Commit(0, tuple(text), (), len(text), reason="prefill"))
    request = DraftRequest((0,), (4,), (GREEDY,), (KeyedRng(0),))
    drafted = b"".join(pair.words.token_bytes(token) or b"" for token in knows.propose(request).tree(0)[0])
    assert drafted
    assert said[cut:].startswith(drafted)
    assert not int(strays.propose(request).n_nodes[0])


def test_accepted_text_is_not_computed_twice(pair: Pair) -> None:
    said = TEXT.encode()
    model = Reciter(pair.draft_words, said)
    tokens, figures = recite(pair.words, StringMatch(model, pair.draft_words), said, 5)
    written = len(pair.draft_words.encode(TEXT))
    assert model.fed < 1.25 * written, f"{model.fed} tokens were fed to read a text of {written}"
    assert figures.rounds < len(tokens) / 2


@pytest.mark.parametrize("kind", KINDS)
def test_drafters_that_cannot_join_the_vocabularies_are_refused(
    pair: Pair, kind: type[TokenIntersection] | type[StringMatch]
) -> None:
    target = pair.target()
    with pytest.raises(UsageError, match="comes without a tokenizer"):
        kind(TransformersModel(pair.draft_model), None)
    with pytest.raises(UsageError, match="needs the tokenizer of the target"):
        pair.drafter(kind).bind(Binding(target, None))
    with pytest.raises(UsageError, match="draft model's own vocabulary"):
        kind(TransformersModel(pair.draft_model), pair.words).bind(Binding(target, pair.words))
    with pytest.raises(UsageError, match="rows would collide"):
        kind(target, pair.words).bind(Binding(target, pair.words))
    with pytest.raises(UsageError, match=r"1 -> 9999 is out of range"):
        pair.drafter(kind, controls={1: 9999}).bind(Binding(target, pair.words))
    with pytest.raises(UsageError, match="paired with one"):
        pair.drafter(kind, controls={0: 1, 1: 1}).bind(Binding(target, pair.words))
