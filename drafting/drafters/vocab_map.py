"""The tokens that two vocabularies share, and texts of the target as a draft model of another vocabulary reads them.

Tokens are shared when they stand for the same bytes (the intersection of Timor et al., arXiv 2502.05202, algorithm 4);
control tokens stand for none and are paired explicitly. Columns are in the order of target ids, everywhere: an order
of one's own is how a token comes to be sampled with another token's probability.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from draftproof.drafting.drafter import Binding
from draftproof.drafting.drafters.text_align import CONTROL, Tokenization, complete
from draftproof.drafting.model import CachedModel, ModelInfo
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError


@dataclass(frozen=True)
class VocabMap:
    """Shared tokens: column w is target token `target_ids[w]` and draft token `draft_ids[w]`."""

    target_ids: Tensor
    """[W] int64, ascending."""
    draft_ids: Tensor
    """[W] int64."""

    @property
    def size(self) -> int:
        return len(self.target_ids)

    def columns(self, logits: Tensor) -> Tensor:
        """Draft logits of the shared tokens, [..., W], from all of them, [..., V_draft]."""
        return logits.index_select(-1, self.draft_ids.to(logits.device))

    def to_draft(self) -> dict[int, int]:
        return dict(zip(self.target_ids.tolist(), self.draft_ids.tolist(), strict=True))


def known(vocabulary: Vocabulary | None, model: CachedModel) -> Vocabulary:
    """The draft model's vocabulary. Raises UsageError when it was loaded without a tokenizer."""
    if vocabulary is None:
        raise UsageError(f"The draft model {model.info.name} comes without a tokenizer, and its tokens are needed.")
    return vocabulary


def controls_between(
    model: CachedModel, vocabulary: Vocabulary, given: Mapping[int, int] | None, binding: Binding
) -> tuple[Vocabulary, dict[int, int]]:
    """The target's vocabulary, and control tokens, target id -> draft id: those `given`, checked, or the usual pairs.

    Raises UsageError when draft model and target cannot be joined by their texts at all.
    """
    draft, target = model.info, binding.model.info
    if binding.model is model:
        raise UsageError("The draft model and the target are one object, so their cache rows would collide.")
    if binding.vocabulary is None:
        raise UsageError(f"Drafting between vocabularies needs the tokenizer of the target, {target.name}.")
    if vocabulary.size > draft.vocab_size:
        raise UsageError(
            f"The draft vocabulary has {vocabulary.size} tokens and the draft model {draft.name} {draft.vocab_size}.",
            remedy="Give the draft model's own vocabulary.",
        )
    controls = _usual_pairs(vocabulary, binding.vocabulary, draft, target) if given is None else dict(given)
    for theirs, ours in controls.items():
        if not 0 <= theirs < target.vocab_size or not 0 <= ours < draft.vocab_size:
            raise UsageError(f"The pair of control tokens {theirs} -> {ours} is out of range.")
    if len(set(controls.values())) != len(controls):
        raise UsageError("Two control tokens of the target are paired with one of the draft model.")
    return binding.vocabulary, controls


def _usual_pairs(
    draft: Vocabulary, target: Vocabulary, draft_info: ModelInfo, target_info: ModelInfo
) -> dict[int, int]:
    """Control tokens that are written alike, and the ends of text where each side has one.

    Vocabularies that know how control tokens are written have `special_tokens`; for others only ends are paired.
    """
    ours: Mapping[str, int] = getattr(draft, "special_tokens", {})
    theirs: Mapping[str, int] = getattr(target, "special_tokens", {})
    pairs = {token: ours[text] for text, token in theirs.items() if text in ours}
    if len(draft_info.eos_ids) == len(target_info.eos_ids) == 1:
        (end,), (own,) = target_info.eos_ids, draft_info.eos_ids
        if end not in pairs and own not in pairs.values():
            pairs[end] = own
    return {t: d for t, d in pairs.items() if t < target_info.vocab_size and d < draft_info.vocab_size}


def intersect(
    draft: Vocabulary, target: Vocabulary, controls: Mapping[int, int], *, draft_size: int, target_size: int
) -> VocabMap:
    """Shared tokens of a draft model with `draft_size` logits and a target with `target_size`.

    `controls`: target id -> draft id, one to one. Raises UsageError when nothing but control tokens is shared.
    """
    ours, theirs = _by_bytes(draft, draft_size, controls.values()), _by_bytes(target, target_size, controls)
    pairs = {theirs[data]: ours[data] for data in theirs.keys() & ours.keys()}
    if not pairs:
        raise UsageError(
            "The vocabularies of draft model and target share no token.",
            remedy="Are both given as bytes? Use 'string-match', which needs no shared tokens.",
        )
    pairs |= dict(controls)
    target_ids = sorted(pairs)
    return VocabMap(torch.tensor(target_ids), torch.tensor([pairs[token] for token in target_ids]))


def _by_bytes(vocabulary: Vocabulary, size: int, controls: Iterable[int]) -> dict[bytes, int]:
    """The token that stands for each string of bytes; where several do, the one that the tokenizer itself writes."""
    found: dict[bytes, list[int]] = {}
    skipped = frozenset(controls)
    for token in range(min(size, vocabulary.size)):
        data = vocabulary.token_bytes(token)
        if data and token not in skipped:
            found.setdefault(data, []).append(token)
    return {data: ids[0] if len(ids) == 1 else _usual(vocabulary, data, ids) for data, ids in found.items()}


def _usual(vocabulary: Vocabulary, data: bytes, ids: list[int]) -> int:
    try:
        written = vocabulary.encode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return ids[0]
    return written[0] if len(written) == 1 and written[0] in ids else ids[0]


@dataclass
class Translation:
    """One row's text in draft tokens: shared tokens one to one, everything else by its bytes.

    The bytes of neighbouring tokens that are not shared are encoded together. A character at the end that still lacks
    bytes is held back.
    """

    shared: Mapping[int, int]
    source: Tokenization
    """The target's side."""
    goal: Tokenization
    """The draft model's side."""
    begin: Sequence[int] = ()
    """Draft tokens before every text, such as the draft model's BOS."""
    text: list[int] = field(default_factory=list)
    draft: list[int] = field(default_factory=list)
    held: bool = False
    """A character is incomplete: the draft model does not know the end of the text."""
    _settled: int = 0
    _settled_draft: int = 0

    def __post_init__(self) -> None:
        self.draft = list(self.begin)
        self._settled_draft = len(self.draft)

    def extend(self, tokens: Sequence[int]) -> None:
        """Target tokens at the end of the text."""
        self.text.extend(tokens)
        del self.draft[self._settled_draft :]
        run: list[int] = []
        for index in range(self._settled, len(self.text)):
            token = self.text[index]
            if token in self.shared:
                self.draft += self.goal.encode(run).ids
                run = []
                self.draft.append(self.shared[token])
                self._settled, self._settled_draft = index + 1, len(self.draft)
            else:
                run += self.source.atoms(token) or ()
        known = complete(run)
        self.draft += self.goal.encode(run[:known]).ids
        self.held = known < len(run)

    def cut(self, length: int) -> None:
        """Forget target tokens from `length` on."""
        kept = self.text[:length]
        self.text, self.draft = [], list(self.begin)
        self._settled, self._settled_draft = 0, len(self.draft)
        self.extend(kept)


def sides(draft: Vocabulary, target: Vocabulary, controls: Mapping[int, int]) -> tuple[Tokenization, Tokenization]:
    """Draft and target side of streams, for control tokens paired target id -> draft id."""
    return (
        Tokenization(draft, {CONTROL + t: d for t, d in controls.items()}),
        Tokenization(target, {CONTROL + t: t for t in controls}),
    )
