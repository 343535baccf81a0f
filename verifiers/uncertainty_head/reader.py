"""Read a text that somebody else wrote, and say what the model makes of each of its steps.

The text up to a step's end is tokenised as one, and the step's tokens are found by where they end: tokenising steps
one by one and joining the ids is not tokenising the text. Only the text up to the step is read for it, so that nothing
that follows can change what is said of it. Steps of one text share a pass wherever their tokens are the same, which
is nearly always.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from draftproof.drafting.language_models.context_ids import ContextIds
from draftproof.drafting.language_models.figures import Figures
from draftproof.drafting.language_models.local import LocalLanguageModel
from draftproof.drafting.model import RowTokens, Wanted
from draftproof.drafting.models.load import LoadedModel
from draftproof.drafting.turns import new_row, turn_of
from draftproof.errors import UsageError
from draftproof.language_model import Context, Piece
from draftproof.subject import Subject
from draftproof.verifiers.uncertainty_head.attention import AttentionReader
from draftproof.verifiers.uncertainty_head.features import (
    FeatureSet,
    NoInternalsError,
    StepInternals,
    blank_ids,
    spoken,
)

SEPARATOR = "\n\n"
"""Put behind earlier steps that were given without one."""

_CHUNK = 256
"""Positions a pass: enough to keep the processor busy, few enough for their logits to fit."""


@dataclass(frozen=True)
class _Placed:
    """A step as tokens of the text that ends with it."""

    ids: tuple[int, ...]
    """Of the question and all that was written, to the last token of the step that says something."""
    start: int
    """The first that reaches into the step."""


@dataclass(frozen=True)
class _Pass:
    """What was read of one text: internals of the tokens from `first` on."""

    ids: tuple[int, ...]
    first: int
    internals: StepInternals


class Reader:
    """Internals of steps, by teacher forcing. For several threads: they take turns."""

    def __init__(self, loaded: LoadedModel, wanted: FeatureSet, attention: AttentionReader | None = None) -> None:
        """`attention` is needed, and used, only where `wanted` has a window (`load_eager` makes both)."""
        wanted.check(loaded.model.info)
        if wanted.window and attention is None:
            raise UsageError(
                "These features have a window of attention, and the model was loaded without eager attention.",
                remedy="Load it with load_eager.",
            )
        self._model = loaded.model
        self._wanted = wanted
        self._attention = attention
        self._turn = turn_of(loaded.model)
        self._context_ids = ContextIds(loaded.tokenizer, loaded.vocabulary, "")
        self.info = loaded.model.info
        self.writer = LocalLanguageModel(loaded).identity.rpartition("#")[2]
        """Digest of weights, tokenizer and chat template, which `LanguageModel.identity` ends with."""
        self.blank = blank_ids(loaded.vocabulary)
        sizes = [len(loaded.vocabulary.token_bytes(token) or b"") for token in range(loaded.vocabulary.size)]
        self._most_characters = self.info.context_length * max(sizes)

    def read(self, subjects: Sequence[Subject]) -> list[StepInternals | NoInternalsError]:
        """Of each step, in order: its internals, or why there are none.

        Raises NumericalError where the model breaks; no text makes it raise.
        """
        found: list[StepInternals | NoInternalsError] = [NoInternalsError("not_read")] * len(subjects)
        problems: dict[str, list[int]] = {}
        for index, subject in enumerate(subjects):
            problems.setdefault(subject.problem, []).append(index)
        for indices in problems.values():
            for index, said in zip(indices, self._of_one_problem([subjects[index] for index in indices]), strict=True):
                found[index] = said
        return found

    def _of_one_problem(self, subjects: Sequence[Subject]) -> list[StepInternals | NoInternalsError]:
        """The longest texts first: what begins them is read with them."""
        placed = [self._place_or_why_not(subject) for subject in subjects]
        steps = {index: each for index, each in enumerate(placed) if isinstance(each, _Placed)}
        found: dict[int, StepInternals] = {}
        passes: list[_Pass] = []
        with self._turn:
            for index in sorted(steps, key=lambda each: -len(steps[each].ids)):
                step = steps[index]
                read = next((each for each in passes if _covers(each, step)), None)
                if read is None:
                    first = min(each.start for each in steps.values() if _is_beginning(each, step))
                    read = self._pass(step.ids, first)
                    passes.append(read)
                found[index] = read.internals.sliced(step.start - read.first, len(step.ids) - read.first)
        return [each if isinstance(each, NoInternalsError) else found[index] for index, each in enumerate(placed)]

    def _place_or_why_not(self, subject: Subject) -> _Placed | NoInternalsError:
        try:
            return self._place(subject)
        except NoInternalsError as error:
            return error

    def _place(self, subject: Subject) -> _Placed:
        before = "".join(_separated(step) for step in subject.context if step)
        if len(before) + len(subject.text) + len(subject.problem) > self._most_characters:
            raise NoInternalsError("context_too_long")
        if not subject.text.strip():
            raise NoInternalsError("empty_step")
        try:
            whole = self._context_ids.continued(Context.of(subject.problem, (Piece(before),)), subject.text)
        except UsageError as error:  # half a surrogate pair, or a question that the chat template refuses
            raise NoInternalsError("unreadable_text", error.message) from error
        count = spoken(whole.ids, self.blank)
        start = max(1, whole.begin)  # nothing predicts the very first token
        if count <= start:
            raise NoInternalsError("empty_step")
        if count - 1 > self.info.context_length:
            raise NoInternalsError("context_too_long")
        return _Placed(whole.ids[:count], start)

    def _pass(self, tokens: tuple[int, ...], first: int) -> _Pass:
        """Internals of the tokens from `first` on. The last one is never fed: nothing is asked of what follows it."""
        model, wanted = self._model, self._wanted
        ids = torch.tensor(tokens)
        hidden: dict[int, list[Tensor]] = {layer: [] for layer in wanted.layers}
        figures = Figures(wanted.top)
        row = new_row()
        model.add_row(row)
        try:
            for begin in range(0, first - 1, _CHUNK):
                piece = ids[begin : min(begin + _CHUNK, first - 1)]
                model.forward([RowTokens(row, piece)], Wanted(logits="none"))
                model.commit(row, range(len(piece)))
            for begin in range(first - 1, len(ids) - 1, _CHUNK):
                piece = ids[begin : min(begin + _CHUNK, len(ids) - 1)]
                result = model.forward([RowTokens(row, piece)], Wanted(taps=wanted.layers))
                model.commit(row, range(len(piece)))
                assert result.logits is not None
                figures.add(result.logits, tokens[begin + 1 : begin + 1 + len(piece)])
                for layer in wanted.layers:
                    hidden[layer].append(result.hidden[layer].float().cpu().clone())
        finally:
            model.drop_row(row)
        figures.measure()
        attention = None
        if wanted.window and self._attention is not None:
            attention = self._attention.windows(ids, first, wanted.window)
        internals = StepInternals(
            logprobs=torch.tensor(figures.logprobs),
            entropies=torch.tensor(figures.entropies),
            margins=torch.tensor(figures.margins),
            hidden={layer: torch.cat(pieces) for layer, pieces in hidden.items()},
            top=torch.tensor(figures.top) if wanted.top else None,
            attention=attention,
        )
        return _Pass(tokens, first, internals)


def _separated(text: str) -> str:
    """`text` with a separator behind it, unless it brings its own."""
    return text if text[-1:].isspace() else text + SEPARATOR


def _covers(read: _Pass, step: _Placed) -> bool:
    return step.start >= read.first and read.ids[: len(step.ids)] == step.ids


def _is_beginning(step: _Placed, whole: _Placed) -> bool:
    return whole.ids[: len(step.ids)] == step.ids
