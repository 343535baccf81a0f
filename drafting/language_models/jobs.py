"""What one question to a local model comes to: what its row begins with, and what is made of each round.

A job can be started again at any time: what it learnt is then forgotten, and its answer does not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

import torch
from torch import Tensor

from draftproof.drafting.branched_reading import MOST_TOKENS, BranchedOutcome, BranchedReading
from draftproof.drafting.language_models.figures import Figures
from draftproof.drafting.language_models.written_text import WrittenText
from draftproof.drafting.model import CachedModel
from draftproof.drafting.models.byte_vocabulary import ByteVocabulary
from draftproof.drafting.rows import Basis, Opening, Reading, RowOutcome, common_length
from draftproof.drafting.sampling import Sampling
from draftproof.errors import UsageError
from draftproof.language_model import Completion, Request, StopCause

LAST_LAYER = -1


class Job:
    """One question. `error` or what its kind gives is there once it is `done`."""

    def __init__(self, ids: Sequence[int]) -> None:
        self.ids = list(ids)
        self.done = False
        self.withdrawn = False
        """The caller went away: nobody waits for the answer."""
        self.alone = False
        """Something failed while it was served together with others: it is now served by itself."""
        self.error: BaseException | None = None
        self.cached = 0
        self._started = perf_counter()
        self.seconds = 0.0

    def finish(self, error: BaseException | None = None) -> None:
        self.error = error
        self.seconds = perf_counter() - self._started
        self.done = True

    def restart(self) -> None:
        self.cached = 0


class Writing(Job):
    """Text that is to be generated."""

    def __init__(
        self,
        request: Request,
        ids: Sequence[int],
        vocabulary: ByteVocabulary,
        end_ids: frozenset[int],
        halts: Tensor | None = None,
    ) -> None:
        super().__init__(ids)
        if not 0 <= request.top <= vocabulary.size:
            raise UsageError(f"The {request.top} largest probabilities of {vocabulary.size} tokens cannot be told.")
        self.halts = halts
        """[V] bool: tokens that may end the text; None where the model does not write by itself."""
        self._request = request
        self._vocabulary = vocabulary
        self._end_ids = end_ids
        decoding = request.decoding
        sampling = Sampling(decoding.temperature, decoding.top_k, decoding.top_p, seed=decoding.seed)
        self.opening = Opening(
            self.ids,
            sampling,
            request.max_new_tokens,
            basis=True,
            hidden_layers=tuple(dict.fromkeys(request.hidden_layers)),
        )
        self.restart()

    def restart(self) -> None:
        super().restart()
        self._text = WrittenText(self._vocabulary, self._request.stop, self._end_ids)
        self._figures = Figures(self._request.top)
        self._hidden: dict[int, list[Tensor]] = {layer: [] for layer in self.opening.hidden_layers}

    def add(self, outcome: RowOutcome) -> bool:
        """Take what a round, or the beginning, gave; whether the text is complete."""
        basis = outcome.basis
        assert basis is not None
        count = self._text.add(outcome.tokens)
        whole = count == len(outcome.tokens)
        self._figures.add(basis.logits if whole else basis.logits[:count], outcome.tokens[:count])
        for layer, states in self._hidden.items():
            states.append(basis.hidden[layer][:count])
        if self._text.cause is None and outcome.done:
            spent = self._text.tokens >= self._request.max_new_tokens
            self._text.finish(StopCause.LENGTH if spent else StopCause.CONTEXT)
        return self._text.cause is not None

    @property
    def length(self) -> int:
        """Tokens of the row that are worth keeping: the context and the text."""
        return len(self.ids) + self._text.tokens

    def completion(self) -> Completion:
        """Raises NumericalError for logits that are no numbers."""
        text = self._text
        assert text.cause is not None
        self._figures.measure()
        return Completion(
            text=text.text,
            cause=text.cause,
            stopped_by=text.stopped_by,
            tokens=text.tokens,
            ids=text.ids,
            logprobs=tuple(self._figures.logprobs),
            entropies=tuple(self._figures.entropies),
            margins=tuple(self._figures.margins),
            top=tuple(self._figures.top),
            prompt_tokens=len(self.ids),
            cached_tokens=self.cached,
            seconds=self.seconds,
            hidden={layer: torch.cat(states).float() for layer, states in self._hidden.items()},
        )


class Probe(Job):
    """The logits behind a context. They stay with the row: who goes on from there begins without a pass."""

    def __init__(self, ids: Sequence[int]) -> None:
        super().__init__(ids)
        self.opening = Opening(self.ids, max_new_tokens=1, basis=True)
        self.basis: Basis | None = None

    @property
    def logits(self) -> Tensor:
        """[1, V]"""
        assert self.basis is not None
        return self.basis.logits


class Recital(Job):
    """A text that somebody else wrote, read as if the model had: teacher forcing."""

    def __init__(self, ids: Sequence[int], begin: int, layers: tuple[int, ...]) -> None:
        super().__init__(ids)
        self.begin = begin
        self.reading = Reading(self.ids, begin, tuple(dict.fromkeys((*layers, LAST_LAYER))))
        self.hidden: dict[int, Tensor] = {}

    def figures(self, model: CachedModel) -> Figures:
        """Of the tokens from `begin` on."""
        tokens, states = self.ids[self.begin :], self.hidden[LAST_LAYER]
        figures = Figures()
        step = max(1, Figures.HELD // model.info.vocab_size)
        for first in range(0, len(tokens), step):
            figures.add(model.head(states[first : first + step]), tokens[first : first + step])
        figures.measure()
        return figures


class Branching(Job):
    """Texts that begin alike, read together: what they have in common once, and all that follows in one pass."""

    def __init__(self, members: Sequence[Recital], common: int) -> None:
        """`common`: how many tokens they begin with alike, 2 or more; none of them is one to be predicted."""
        super().__init__(members[0].ids[:common])
        self.members = members
        self.reading = BranchedReading(self.ids, [each.ids[common:] for each in members], members[0].reading.layers)

    def take(self, outcome: BranchedOutcome) -> None:
        common = len(self.ids)
        self.cached = outcome.cached
        for place, (member, hidden) in enumerate(zip(self.members, outcome.hidden, strict=True)):
            member.hidden = {layer: states[member.begin - common :] for layer, states in hidden.items()}
            member.cached = outcome.cached if place == 0 else common  # the first has read it for all

    def finish(self, error: BaseException | None = None) -> None:
        super().finish(error)
        for member in self.members:
            member.finish(error)


def together(jobs: Sequence[Recital]) -> list[Job]:
    """The same questions, those in one job that share all but the end of what they go on from.

    A long continuation is read by itself: a branch is not cut in pieces, and attention over it whole takes memory.
    """
    groups: list[tuple[int, list[Recital]]] = []
    for job in jobs:
        for place, (common, group) in enumerate(groups):
            shared = min(common, job.begin, common_length(group[0].ids, job.ids))
            alike = 2 * shared > max(common, job.begin) and job.reading.layers == group[0].reading.layers
            longest = max(len(each.ids) for each in (*group, job)) - shared
            if alike and shared > 1 and longest <= MOST_TOKENS:
                groups[place] = (shared, [*group, job])
                break
        else:
            groups.append((job.begin, [job]))
    return [Branching(group, common) if len(group) > 1 else group[0] for common, group in groups]
