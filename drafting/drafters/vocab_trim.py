"""A smaller vocabulary for drafting: the head is the dearest part of a cheap drafter, and most of its rows are rare.

Goel et al., arXiv 2506.22694 (VocabTrim), and Zhao et al., arXiv 2502.14856 (FR-Spec): keep the ids that occur most
often in text of the target itself. The target's own distribution is never trimmed, so nothing is lost but drafts.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

from draftproof.drafting.model import CachedModel
from draftproof.drafting.vocabulary import Vocabulary
from draftproof.errors import UsageError


@dataclass(frozen=True)
class TrimmedVocabulary:
    """The ids that a drafter may propose. Its classes are their columns, and one more for all other tokens."""

    ids: Tensor
    """[W] int64, ascending: the target id of each column."""
    full_size: int
    """V of the target."""

    def __post_init__(self) -> None:
        ids = self.ids
        if ids.dim() != 1 or not len(ids) or not bool((ids[1:] > ids[:-1]).all()):
            raise UsageError("The ids of a trimmed vocabulary must be a list in ascending order, without repeats.")
        if int(ids[0]) < 0 or int(ids[-1]) >= self.full_size:
            raise UsageError(
                f"The trimmed vocabulary holds ids {int(ids[0])} … {int(ids[-1])}; the target has "
                f"0 … {self.full_size - 1}."
            )

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def rest(self) -> int:
        """The class of every token that is not kept."""
        return len(self.ids)

    def classes(self, ids: Tensor) -> Tensor:
        """Class of each target id, int64, same shape: its column, or `rest`."""
        table = torch.full((self.full_size,), self.rest, dtype=torch.int64)
        table[self.ids] = torch.arange(self.size)
        return table[ids]

    def coverage(self, sequences: Iterable[Sequence[int]]) -> float:
        """Share of the tokens of held-out sequences that can be drafted at all. Below 0.97, keep more ids."""
        kept = total = 0
        for sequence in sequences:
            classes = self.classes(torch.tensor(sequence, dtype=torch.int64))
            kept += int((classes != self.rest).sum())
            total += len(classes)
        return kept / total if total else 0.0


def trim_vocabulary(
    sequences: Iterable[Sequence[int]], size: int, full_size: int, *, forced: Iterable[int] = ()
) -> TrimmedVocabulary:
    """The `size` ids that are forced or most frequent in `sequences`, ties to the lower id.

    Ids that never occur are kept too while there is room, from the lowest: tokenizers number frequent merges first.
    """
    if size < 1:
        raise UsageError(f"A trimmed vocabulary of {size} tokens was asked for; it needs at least 1.")
    counts = torch.zeros(full_size, dtype=torch.int64)
    for sequence in sequences:
        counts += torch.bincount(torch.tensor(sequence, dtype=torch.int64), minlength=full_size)
    must = torch.tensor(sorted(set(forced)), dtype=torch.int64)
    if len(must) > min(size, full_size):
        raise UsageError(
            f"{len(must)} tokens must be kept (control tokens, digits, bytes, punctuation), and the trimmed vocabulary "
            f"was to have {size}.",
            remedy="Ask for a larger one.",
        )
    counts[must] = torch.iinfo(torch.int64).max
    kept = counts.sort(descending=True, stable=True).indices[: min(size, full_size)]
    return TrimmedVocabulary(kept.sort().values, full_size)


def forced_ids(vocabulary: Vocabulary | None, eos_ids: Iterable[int]) -> frozenset[int]:
    """Ids that are kept whatever the text was: ends of text, control tokens, single bytes, digits, blanks, signs."""
    kept = set(eos_ids)
    if vocabulary is None:
        return frozenset(kept)
    kept |= {token for token in vocabulary.special_ids if 0 <= token < vocabulary.size}
    for token in range(vocabulary.size):
        raw = vocabulary.token_bytes(token)
        if raw is not None and _is_basic(raw):
            kept.add(token)
    return frozenset(kept)


def _is_basic(raw: bytes) -> bool:
    """One byte; up to four blanks; a number below 1000, or two ASCII signs, with or without a space before them."""
    if len(raw) <= 1:
        return True
    if not raw.strip():
        return len(raw) <= 4
    body = raw.removeprefix(b" ")
    if body.isdigit():
        return len(body) <= 3
    return len(body) <= 1 or (len(body) == 2 and all(33 <= c < 127 and not chr(c).isalnum() for c in body))


@dataclass(frozen=True)
class HeadTimes:
    """Milliseconds of the language-model head for one position."""

    full_ms: float
    trimmed_ms: float


def head_times(model: CachedModel, ids: Tensor, *, repeats: int = 20) -> HeadTimes:
    """What trimming saves: the target's whole head against a matrix of the kept rows; the fastest of `repeats`."""
    state = torch.randn(1, model.info.hidden_size, device=model.info.device, dtype=model.info.dtype)
    rows = torch.randn(len(ids), model.info.hidden_size, device=model.info.device, dtype=model.info.dtype)

    def timed(trimmed: bool) -> float:
        best = float("inf")
        for _ in range(repeats):
            started = time.perf_counter()
            if trimmed:
                torch.nn.functional.linear(state, rows)
            else:
                model.head(state)
            best = min(best, time.perf_counter() - started)
        return 1000.0 * best

    return HeadTimes(full_ms=timed(trimmed=False), trimmed_ms=timed(trimmed=True))


def output_rows(model: CachedModel, ids: Tensor, *, probes_per_width: int = 2) -> tuple[Tensor, Tensor]:
    """The target's final norm and head for `ids` as one affine map of states scaled to mean square 1.

    Returns A [W, H] and c [W], float32, such that `head(h, ids) ≈ A (h / rms(h)) + c`. Solved by least squares from
    random states, so it needs nothing of the model but `head`: exact where the final norm is an RMS norm, the nearest
    affine map where it subtracts a mean or the logits are capped.
    """
    info = model.info
    random = torch.Generator().manual_seed(0)
    states = normalised(torch.randn(probes_per_width * info.hidden_size + 1, info.hidden_size, generator=random))
    logits = model.head(states.to(info.device, info.dtype), ids.to(info.device)).float().cpu()
    design = torch.cat([states, torch.ones(len(states), 1)], dim=1)
    solved = torch.linalg.lstsq(design.double(), logits.double()).solution.float()
    return solved[:-1].T.contiguous(), solved[-1].contiguous()


def normalised(states: Tensor) -> Tensor:
    """States [..., H] scaled to mean square 1, float32: how heads see them, and they fit float16 then."""
    return rms_norm(states.float(), states.shape[-1:], eps=1e-12)
