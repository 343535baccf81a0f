"""Shared tokens: the same bytes, each with its own probability, whatever the numbers are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from draftproof.drafting.drafters.vocab_map import Translation, VocabMap, intersect, sides
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.errors import UsageError
from tests.drafting.drafters.two_vocabularies import TEXT, draft_vocabulary, target_vocabulary

PAIRS = {1: 1}
"""<|end|> on both sides."""


@pytest.fixture(scope="module")
def target() -> ByteVocabulary:
    return target_vocabulary()


@pytest.fixture(scope="module")
def draft() -> ByteVocabulary:
    return draft_vocabulary()


@pytest.fixture(scope="module")
def shared(draft: ByteVocabulary, target: ByteVocabulary) -> VocabMap:
    return intersect(draft, target, PAIRS, draft_size=draft.size, target_size=target.size)


def test_shared_tokens_stand_for_the_same_bytes(
    shared: VocabMap, draft: ByteVocabulary, target: ByteVocabulary
) -> None:
    assert bool((shared.target_ids[1:] > shared.target_ids[:-1]).all())
    assert len(set(shared.draft_ids.tolist())) == shared.size
    for t, d in shared.to_draft().items():
        assert (t, d) == (1, 1) or target.token_bytes(t) == draft.token_bytes(d) != None  # noqa: E711
    ours = {draft.token_bytes(token) for token in range(draft.size)} - {None}
    theirs = {target.token_bytes(token) for token in range(target.size)} - {None}
    assert shared.size == len(ours & theirs) + 1
    assert 256 < shared.size < min(draft.size, target.size), "neither vocabulary holds the other"
    assert any(t != d for t, d in shared.to_draft().items())


def misplaced(shared: VocabMap, columns: torch.Tensor) -> int:
    """Shared tokens that do not have their own logit, where every logit is different."""
    logits = torch.randn(400, generator=torch.Generator().manual_seed(0))[: int(shared.draft_ids.max()) + 1]
    original = {t: float(logits[d]) for t, d in shared.to_draft().items()}
    mapped = dict(zip(shared.target_ids.tolist(), logits[columns].tolist(), strict=True))
    return sum(mapped[token] != original[token] for token in original)


def test_every_shared_token_keeps_its_own_logit(shared: VocabMap) -> None:
    """In transformers 5.23 it does not: columns in dictionary order are written to ids in ascending order."""
    logits = torch.randn(3, 2, int(shared.draft_ids.max()) + 5)
    mapped = shared.columns(logits)
    for column, (t, d) in enumerate(shared.to_draft().items()):
        assert int(shared.target_ids[column]) == t
        assert torch.equal(mapped[..., column], logits[..., d])
    assert misplaced(shared, shared.draft_ids) == 0
    assert misplaced(shared, shared.draft_ids.sort().values) > 0, "the order of draft ids is another one"


class Doubled:
    """Token 0 is a byte token for `a`, token 2 the `a` that the tokenizer writes."""

    size = 3
    special_ids: frozenset[int] = frozenset()

    def token_bytes(self, token: int) -> bytes | None:
        return (b"a", b"b", b"a")[token]

    def encode(self, text: str) -> list[int]:
        return [{"a": 2, "b": 1}[character] for character in text]

    def decode(self, ids: Sequence[int]) -> str:
        return ""


def test_of_two_tokens_for_the_same_bytes_the_usual_one_is_shared(target: ByteVocabulary) -> None:
    found = intersect(Doubled(), target, {}, draft_size=3, target_size=target.size)
    assert set(found.draft_ids.tolist()) == {1, 2}


def test_tokens_without_a_logit_are_not_shared(draft: ByteVocabulary, target: ByteVocabulary) -> None:
    found = intersect(draft, target, {}, draft_size=100, target_size=target.size)
    assert int(found.draft_ids.max()) < 100


def test_vocabularies_without_a_common_token_are_refused(target: ByteVocabulary) -> None:
    class Foreign(Doubled):
        def token_bytes(self, token: int) -> bytes | None:
            return b"\xff\xfe%d" % token

    with pytest.raises(UsageError, match="share no token"):
        intersect(Foreign(), target, PAIRS, draft_size=3, target_size=target.size)


def translation(
    shared: VocabMap, draft: ByteVocabulary, target: ByteVocabulary, *, begin: tuple[int, ...] = ()
) -> Translation:
    own, theirs = sides(draft, target, PAIRS)
    return Translation(shared.to_draft(), theirs, own, begin)


def test_texts_reach_the_draft_model_whole(shared: VocabMap, draft: ByteVocabulary, target: ByteVocabulary) -> None:
    ids = target.encode(TEXT)
    assert any(token not in shared.to_draft() for token in ids)
    whole = translation(shared, draft, target, begin=(0,))
    whole.extend([*ids, 1])
    assert whole.draft[0] == 0
    assert whole.draft[-1] == 1
    assert b"".join(draft.token_bytes(token) or b"" for token in whole.draft[1:-1]) == TEXT.encode()
    assert not whole.held


def test_a_text_may_come_in_any_pieces(shared: VocabMap, draft: ByteVocabulary, target: ByteVocabulary) -> None:
    ids = target.encode(TEXT)
    piecewise = translation(shared, draft, target)
    for index, token in enumerate(ids):
        piecewise.extend([token])
        whole = translation(shared, draft, target)
        whole.extend(ids[: index + 1])
        assert (piecewise.draft, piecewise.held) == (whole.draft, whole.held)
    piecewise.cut(9)
    whole = translation(shared, draft, target)
    whole.extend(ids[:9])
    assert (piecewise.draft, piecewise.text) == (whole.draft, ids[:9])


def test_a_character_that_lacks_bytes_is_held_back(draft: ByteVocabulary, target: ByteVocabulary) -> None:
    """Nothing but the ends of text is shared here, so that all text goes through bytes."""
    own, theirs = sides(draft, target, PAIRS)
    row = Translation(PAIRS, theirs, own)
    first, second = (target.encode("日")[0:1], target.encode("日")[1:])
    row.extend([*target.encode("coin "), *first])
    before = list(row.draft)
    assert row.held or not second
    row.extend(second)
    assert not row.held
    assert b"".join(draft.token_bytes(token) or b"" for token in row.draft) == "coin 日".encode()
    assert row.draft[: len(before)] == before or not before


def test_unpaired_control_tokens_are_left_out(shared: VocabMap, draft: ByteVocabulary, target: ByteVocabulary) -> None:
    row = translation(shared, draft, target)
    row.extend([0, *target.encode("coins")])
    assert b"".join(draft.token_bytes(token) or b"" for token in row.draft) == b"coins"
