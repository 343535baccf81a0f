"""What every verifier by internals shares: where the internals of a step come from, and how verdicts are made.

*Online*, a step's internals were told while the model wrote it, and are offered before it is judged. Else the step is
*read*: the model is fed the text once more. For text that the model wrote itself both give the same score.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from draftproof.errors import UsageError
from draftproof.language_model import Completion
from draftproof.subject import Granularity, Subject, SubjectKey
from draftproof.verdict import Cost, FeatureEvidence, Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import abstention, identity
from draftproof.verifiers.uncertainty_head.features import NoInternalsError, StepInternals, of_completion
from draftproof.verifiers.uncertainty_head.reader import Reader

MOST_OFFERS = 4096
"""Offers that wait to be asked about; the oldest are forgotten first."""


@dataclass(frozen=True)
class Opinion:
    """What internals say of a step."""

    score: float
    """Probability that the step is correct."""
    raw: dict[str, float]
    """The native figure that the score was made from."""
    summary: dict[str, float] = field(default_factory=dict)


_Place = tuple[SubjectKey | None, str]
"""Of an offer: its subject's key, or None where it was made by text alone; and the step's text. Candidates for one
position have one key and are told apart by their texts."""


class InternalsVerifier(ABC):
    """Accepts a step whose score is at least the threshold, rejects others, abstains without internals.

    Its word is a model's opinion: scores order steps by how sure the model was, and are no calibrated probabilities.
    """

    name: str
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION

    def __init__(
        self,
        *,
        writer: str,
        layers: tuple[int, ...],
        blank: frozenset[int],
        reader: Reader | None,
        threshold: float,
        top: int = 0,
    ) -> None:
        """
        Args:
            writer: what the identity of the model ends with whose internals are judged.
            layers: whose states are needed.
            blank: token ids that say nothing.
            reader: reads what was not offered; None abstains from it.
            top: how many of the largest probabilities are needed.
        """
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0.0 <= threshold <= 1.0:
            raise UsageError(f"The threshold is a probability, got {threshold!r}.")
        self._writer = writer
        self._layers = layers
        self._top = top
        self._blank = blank
        self._reader = reader
        self._threshold = float(threshold)
        self._offers: OrderedDict[_Place, Opinion | NoInternalsError] = OrderedDict()
        self._lock = threading.Lock()

    @property
    @abstractmethod
    def arguments(self) -> Mapping[str, Any]: ...

    @property
    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]: ...

    @abstractmethod
    def opinions(self, steps: Sequence[StepInternals]) -> list[Opinion | NoInternalsError]:
        """Of each step's internals, in order."""

    @cached_property
    def signature(self) -> str:
        return identity(self)

    @property
    def needs_layers(self) -> tuple[int, ...]:
        """What a `Request` must name as `hidden_layers`, so that its completion can be offered."""
        return self._layers

    @property
    def needs_top(self) -> int:
        """What it must name as `top`."""
        return self._top

    def knows(self, writer: str) -> bool:
        """Whether this is the identity of the model whose internals are judged."""
        return writer.rpartition("#")[2] == self._writer

    def offer(self, step: SubjectKey | str, completion: Completion, *, writer: str) -> None:
        """Tell the internals that a step was written with, to be judged by them when `check` asks about it.

        Args:
            step: the key of its subject; or its text, where no trace has it yet. Equal texts may stand in other
                contexts, so an offer by text serves one check, and the key is better where it is known.
            completion: of exactly this step. A later offer of the same replaces an earlier one.
            writer: `LanguageModel.identity` of the model that wrote it; another than the head's is not judged.

        Raises UsageError where `step` is another text than the completion's.
        """
        text = _trimmed(completion.text)
        if isinstance(step, str) and _trimmed(step) != text:
            raise UsageError("A step was offered with the completion of another text.")
        place: _Place = (None if isinstance(step, str) else step, text)
        said = self._judged(completion, writer)
        with self._lock:
            self._offers.pop(place, None)
            self._offers[place] = said
            while len(self._offers) > MOST_OFFERS:
                self._offers.popitem(last=False)

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        said: dict[int, tuple[str, Opinion | NoInternalsError]] = {}
        for index, subject in enumerate(subjects):
            offered = self._offer_of(subject)
            if offered is not None:
                said[index] = ("online", offered)
            elif self._reader is None:
                said[index] = ("online", self._why_not(subject))
        rest = [index for index in range(len(subjects)) if index not in said]
        if rest and self._reader is not None:
            read = self._reader.read([subjects[index] for index in rest])
            for index, opinion in zip(rest, self._each(read), strict=True):
                said[index] = ("reader", opinion)
        return [self._verdict(subject, *said[index]) for index, subject in enumerate(subjects)]

    def _judged(self, completion: Completion, writer: str) -> Opinion | NoInternalsError:
        if not self.knows(writer):
            return NoInternalsError("other_model", writer)
        try:
            internals = of_completion(completion, self._layers, self._blank, self._top)
        except NoInternalsError as error:
            return error
        return self._each([internals])[0]

    def _each(self, found: Sequence[StepInternals | NoInternalsError]) -> list[Opinion | NoInternalsError]:
        """Opinions of those that have internals; what is missing of the others."""
        there = [each for each in found if isinstance(each, StepInternals)]
        opinions = iter(self.opinions(there))
        return [next(opinions) if isinstance(each, StepInternals) else each for each in found]

    def _offer_of(self, subject: Subject) -> Opinion | NoInternalsError | None:
        text = _trimmed(subject.text)
        with self._lock:
            return self._offers.get((subject.key, text)) or self._offers.pop((None, text), None)

    def _why_not(self, subject: Subject) -> NoInternalsError:
        with self._lock:
            offered = any(key == subject.key for key, _ in self._offers)
        if offered:
            return NoInternalsError("other_text", "what was offered for this step is another text")
        return NoInternalsError("no_internals", "none were offered, and no model is loaded")

    def _verdict(self, subject: Subject, mode: str, said: Opinion | NoInternalsError) -> Verdict:
        if isinstance(said, NoInternalsError):
            detail = {"detail": said.detail[:200]} if said.detail else {}
            return abstention(self, subject, reason=said.reason, raw={"mode": mode, **detail})
        accepted = said.score >= self._threshold
        return Verdict(
            subject=subject.key,
            verifier=self.signature,
            proposition=self.proposition,
            outcome=Outcome.ACCEPT if accepted else Outcome.REJECT,
            score=said.score,
            guarantee=self.guarantee,
            reason="at_or_above_threshold" if accepted else "below_threshold",
            evidence=(FeatureEvidence(values=said.summary),),
            cost=Cost(calls=int(mode == "reader")),
            raw={"mode": mode, "threshold": self._threshold, **said.raw},
        )


def _trimmed(text: str) -> str:
    """A step without the separator that its writer may or may not have put behind it."""
    return text.rstrip()
