"""A fitted router as it lies on disk: bound to the pair of models that it was fitted for, and to what it reads.

A file of JSON; a router that reads text is a folder, with the same JSON in `router.json` beside its checkpoint.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from draftproof.canonical import digest
from draftproof.errors import DraftproofError, InputError, UsageError
from draftproof.verifiers.routers.boosted import BoostedModel
from draftproof.verifiers.routers.logistic import LogisticModel
from draftproof.verifiers.routers.rows import Pair
from draftproof.verifiers.routers.text_head import TextHead, annotated

FORMAT = "draftproof-router"
VERSION = 1
CONFIG = "router.json"
"""In the folder of a router that reads text."""
MAX_BYTES = 64_000_000

RouterModel = LogisticModel | BoostedModel | TextHead


@dataclass(frozen=True)
class RouterFile:
    """A router: what it reads, and how it makes a probability of it."""

    pair: Pair
    features: tuple[str, ...]
    """Names of the features it reads, in the order of its model; none for one that reads text."""
    model: RouterModel
    base_rate: float
    """Share of the rows it was fitted to in which the target was better: what a router knows that knows nothing."""
    report: Mapping[str, Any]
    """How good it was on rows of other problems than it was fitted to; see `RouterReport`."""
    described: Mapping[str, Any]
    """Of the model, as stored."""

    @cached_property
    def digest(self) -> str:
        """Identifies everything that its probabilities depend on."""
        return digest({"pair": list(self.pair), "features": list(self.features), "model": dict(self.described)})

    def probability(
        self, problem: str, context: Sequence[str], writers: Sequence[str], step: str, features: Mapping[str, float]
    ) -> float | None:
        """That the target's step would score higher than `step`, the draft's.

        None where the text is longer than a router of text can read. Raises KeyError for a feature that is missing.
        """
        return probability(self.model, self.features, problem, context, writers, step, features)


def probability(
    model: RouterModel,
    names: Sequence[str],
    problem: str,
    context: Sequence[str],
    writers: Sequence[str],
    step: str,
    features: Mapping[str, float],
) -> float | None:
    """See `RouterFile.probability`; `names` are the features that `model` reads, in its order."""
    if isinstance(model, TextHead):
        logit = model.logit(annotated(problem, [*context, step], [*writers, "draft"]))
    else:
        logit = model.logit([features[name] for name in names])
    return None if logit is None else sigmoid(logit)


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow; NaN stays NaN."""
    if logit < 0.0:
        power = math.exp(logit)
        return power / (1.0 + power)
    return 1.0 / (1.0 + math.exp(-logit))


def save_router(
    out: Path, *, pair: Pair, features: Sequence[str], model: RouterModel, base_rate: float, report: Mapping[str, Any]
) -> RouterFile:
    """Write a router to the file `out`, or to the folder `out` where it reads text."""
    if isinstance(model, TextHead):
        out.mkdir(parents=True, exist_ok=True)
        described, file = model.save(out), out / CONFIG
    else:
        described, file = json.loads(json.dumps(model.stored())), out
        file.parent.mkdir(parents=True, exist_ok=True)
    stored = {
        "format": FORMAT,
        "version": VERSION,
        "pair": {"draft": pair.draft, "target": pair.target},
        "features": list(features),
        "base_rate": base_rate,
        "model": described,
        "report": dict(report),
    }
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(json.dumps(stored, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(file)
    return RouterFile(pair, tuple(features), model, base_rate, dict(report), described)


def load_router(path: Path, *, pair: Sequence[str] | None = None) -> RouterFile:
    """The router in a file or folder.

    Args:
        pair: identities of the draft and the target it is wanted for.

    Raises UsageError where there is none, or one for another pair, and InputError for one that cannot be read.
    """
    file = path / CONFIG if path.is_dir() else path
    try:
        if file.stat().st_size > MAX_BYTES:
            raise InputError(f"{file} is too large for a router: more than {MAX_BYTES:,} bytes.")
        stored = json.loads(file.read_text(encoding="utf-8"))
        router = _read(file, stored)
    except DraftproofError:
        raise
    except OSError as error:
        raise UsageError(
            f"There is no router in {path}: {file.name}: {error.strerror or error}.",
            remedy="Fit one with draftproof train router.",
        ) from error
    except Exception as error:  # whatever else lies in a file that claims to be a router
        raise InputError(
            f"The router in {file} cannot be read: {type(error).__name__}: {error}.", remedy="Fit it again."
        ) from error
    if pair is not None and not router.pair.is_of(pair):
        raise UsageError(
            f"The router in {path} was fitted for {router.pair}, not for {Pair(*pair)}.",
            remedy="Collect rows with this pair, and fit one: draftproof train router.",
        )
    return router


def _read(file: Path, stored: Any) -> RouterFile:
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise InputError(f"{file} holds no router.", remedy="Name a file that draftproof train router wrote.")
    if stored["version"] != VERSION:
        raise InputError(f"{file} has version {stored['version']!r} of routers; this program reads {VERSION}.")
    pair = Pair(_text(stored["pair"]["draft"]), _text(stored["pair"]["target"]))
    features = tuple(_text(each) for each in stored["features"])
    if len(set(features)) != len(features):
        raise ValueError("a feature is named twice")
    base_rate = float(stored["base_rate"])
    if not 0.0 <= base_rate <= 1.0:
        raise ValueError(f"the base rate is {base_rate}")
    described = dict(stored["model"])
    return RouterFile(pair, features, _model(file, described, features), base_rate, dict(stored["report"]), described)


def _model(file: Path, described: Mapping[str, Any], features: Sequence[str]) -> RouterModel:
    match described["kind"]:
        case "logistic":
            return LogisticModel.restored(described, len(features))
        case "boosted":
            return BoostedModel.restored(described, len(features))
        case "text":
            return TextHead.restored(described, file.parent)
        case other:
            raise ValueError(f"a model of kind {other!r} is not known")


def _text(given: Any) -> str:
    if not isinstance(given, str) or not given:
        raise ValueError("a text is expected")
    return given
