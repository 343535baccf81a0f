"""The verifier `uncertainty-head`: a trained head's opinion of a step, from the internals of its base model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from draftproof.drafting.models.load import LoadedModel, load_model
from draftproof.errors import UsageError
from draftproof.settings import settings
from draftproof.verifiers.uncertainty_head.attention import AttentionReader, load_eager
from draftproof.verifiers.uncertainty_head.features import FeatureSet, NoInternalsError, StepInternals
from draftproof.verifiers.uncertainty_head.head import logits_of
from draftproof.verifiers.uncertainty_head.head_files import load_head
from draftproof.verifiers.uncertainty_head.judging import InternalsVerifier, Opinion
from draftproof.verifiers.uncertainty_head.reader import Reader


class UncertaintyHeadVerifier(InternalsVerifier):
    """Score: 1 − sigmoid(logit), the head's probability that the step is correct."""

    def __init__(self, head: str, model: str | None = None, threshold: float = 0.5) -> None:
        """
        Args:
            head: folder of a trained head.
            model: its base model by name, folder or file, to read steps with that were not offered. Without it, such
                steps are abstained from.
            threshold: least score that is accepted.
        """
        trained = load_head(Path(head))
        reader = None
        if model is not None:
            loaded, attention = load_for(model, trained.record.features)
            trained.record.base.check(loaded.model.info, None, f"The uncertainty head in {head}")
            reader = Reader(loaded, trained.record.features, attention)
            trained.record.base.check(loaded.model.info, reader.writer, f"The uncertainty head in {head}")
        elif not trained.record.features.online:
            raise UsageError(
                f"The head in {head} looks at what no backend tells while it generates.", remedy="Name its model."
            )
        super().__init__(
            writer=trained.record.base.writer,
            layers=trained.record.features.layers,
            blank=frozenset(trained.record.blank),
            reader=reader,
            threshold=threshold,
            top=trained.record.features.top,
        )
        self.name = "uncertainty-head"
        self._head = trained
        self._arguments = {"head": str(head), "model": None if model is None else str(model), "threshold": threshold}

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self._arguments

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        return {"head": self._head.digest, "base": self._head.record.base.digest}

    def opinions(self, steps: Sequence[StepInternals]) -> list[Opinion | NoInternalsError]:
        said: list[Opinion | NoInternalsError] = []
        features: list[torch.Tensor] = []
        for step in steps:
            try:
                seen = step.features(self._head.record.features)
                if seen.shape[1] != self._head.head.config.features:
                    raise NoInternalsError("other_model", f"{seen.shape[1]} figures a token came")
                features.append(seen)
                said.append(Opinion(0.0, {}, step.summary))
            except NoInternalsError as error:
                said.append(error)
        logits = iter(logits_of(self._head.head, features).tolist())
        return [_opinion(next(logits), each) if isinstance(each, Opinion) else each for each in said]


def _opinion(logit: float, of: Opinion) -> Opinion:
    return Opinion(0.5 - 0.5 * math.tanh(0.5 * logit), {"logit": logit}, of.summary)  # 1 - sigmoid


def load_for(model: str, features: FeatureSet) -> tuple[LoadedModel, AttentionReader | None]:
    """A model that tells these features: attending eagerly, which is slow, only where they have a window."""
    folder = settings().models_folder
    if features.window:
        return load_eager(model, folder)
    return load_model(model, models_folder=folder), None
