"""What a model's own probabilities say of a step, without any training: what a head must beat.

Each is one number of the step's tokens and a monotone map of it into [0, 1], so that scores can be ranked, thresholded
and calibrated like any other. None is a calibrated probability.

| verifier | native figure | score |
|---|---|---|
| `mean-logprob` | mean log-probability of the tokens, nats | exp: their geometric mean probability |
| `perplexity` | exp(−mean log-probability) | 1 / perplexity; orders steps as `mean-logprob` does |
| `token-entropy` | mean entropy of the tokens' distributions, nats | exp(−entropy): one over how many were in play |

`p-true` asks the model, and has a file of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.settings import settings
from draftproof.verifiers.uncertainty_head.features import FeatureSet, NoInternalsError, StepInternals
from draftproof.verifiers.uncertainty_head.judging import InternalsVerifier, Opinion
from draftproof.verifiers.uncertainty_head.reader import Reader

Figure = Callable[[StepInternals], tuple[str, float, float]]
"""Name and value of the native figure, and the score."""


def mean_logprob(step: StepInternals) -> tuple[str, float, float]:
    mean = float(step.logprobs.double().mean())
    return "mean_logprob", mean, min(1.0, math.exp(mean))


def perplexity(step: StepInternals) -> tuple[str, float, float]:
    value = math.exp(min(700.0, -float(step.logprobs.double().mean())))
    return "perplexity", value, min(1.0, 1.0 / value)


def token_entropy(step: StepInternals) -> tuple[str, float, float]:
    mean = float(step.entropies.double().mean())
    return "mean_entropy", mean, min(1.0, math.exp(-mean))


FIGURES: dict[str, Figure] = {
    "mean-logprob": mean_logprob,
    "perplexity": perplexity,
    "token-entropy": token_entropy,
}


class _FigureVerifier(InternalsVerifier):
    """One figure of a step's tokens as a verifier."""

    def __init__(self, name: str, model: str | LoadedModel, threshold: float) -> None:
        loaded = model if isinstance(model, LoadedModel) else load_model(model, models_folder=settings().models_folder)
        reader = Reader(loaded, FeatureSet())
        super().__init__(writer=reader.writer, layers=(), blank=reader.blank, reader=reader, threshold=threshold)
        self.name = name
        self._figure = FIGURES[name]
        self._base = f"{loaded.model.info.digest}#{reader.writer}"
        self._arguments = {"model": loaded.model.info.name, "threshold": threshold}

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._arguments

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"base": self._base}

    def opinions(self, steps: Sequence[StepInternals]) -> list[Opinion | NoInternalsError]:
        return [self._opinion(step) for step in steps]

    def _opinion(self, step: StepInternals) -> Opinion | NoInternalsError:
        native, value, score = self._figure(step)
        if not math.isfinite(value) or not math.isfinite(score):
            return NoInternalsError("internals_not_finite")
        return Opinion(score, {native: value}, step.summary)


class MeanLogprobVerifier(_FigureVerifier):
    """`mean-logprob`: the geometric mean of the probabilities that the model gives the step's tokens."""

    def __init__(self, model: str, threshold: float = 0.5) -> None:
        super().__init__("mean-logprob", model, threshold)


class PerplexityVerifier(_FigureVerifier):
    """`perplexity`: one over the model's perplexity on the step."""

    def __init__(self, model: str, threshold: float = 0.5) -> None:
        super().__init__("perplexity", model, threshold)


class TokenEntropyVerifier(_FigureVerifier):
    """`token-entropy`: how undecided the model was, on average, whatever token came then."""

    def __init__(self, model: str, threshold: float = 0.5) -> None:
        super().__init__("token-entropy", model, threshold)
