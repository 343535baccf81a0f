"""From collected rows to a router, and how good it is on problems that it has not seen.

The label is whether the target's step scored higher. Classes are balanced for fitting, as published for Arbitrage
(arXiv 2512.05033): feature models weigh their rows, the text head drops rows of the larger class at random. The logit
is then moved back by the log-odds of the base rate, so that what comes out is a probability again and not a score on
a scale where both classes are equally likely.

Rows of one problem depend on each other, so problems, never rows, are dealt out: most to fit, some to choose the number
of trees by, some to report on. Nothing is chosen by the last. A rank correlation of 0.15 between probability and
advantage is what the published router of 1.5 billion parameters reached: the advantage of one greedy step is noisy.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from draftproof.drafting.training.progress import Report, silent
from draftproof.errors import UsageError
from draftproof.verifiers.routers.boosted import Boosting, Rows, fit_boosted
from draftproof.verifiers.routers.logistic import fit_logistic
from draftproof.verifiers.routers.report import RouterReport, measured
from draftproof.verifiers.routers.rows import Pair, RouterRow
from draftproof.verifiers.routers.stored import RouterFile, RouterModel, probability, save_router
from draftproof.verifiers.routers.text_head import TextHead, TextTraining, annotated, fit_text_head

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Kind = Literal["logistic", "boosted", "text"]
MINIMUM = 200
"""Rows of each class. Fewer say next to nothing about steps whose advantage is mostly noise."""
_TEST, _CHOOSE = 0.2, 0.15
"""Shares of the problems that are reported on, and that the number of trees is chosen by."""


@dataclass(frozen=True)
class Split:
    """Rows by what they are for; no problem is in two of them."""

    fit: list[RouterRow]
    choose: list[RouterRow]
    test: list[RouterRow]


def fit_router(
    rows: Sequence[RouterRow],
    out: Path,
    *,
    kind: Kind = "logistic",
    minimum: int = MINIMUM,
    seed: int = 0,
    checkpoint: Path | None = None,
    training: TextTraining | None = None,
    state: Path | None = None,
    progress: Report = silent,
) -> tuple[RouterFile, RouterReport]:
    """Fit a router to `rows` and store it in `out`.

    Args:
        out: a file of JSON, or, for the kind `text`, a folder.
        minimum: rows that each class must have; lower it only to try things out.
        seed: of the split, and of what is dropped for balance.
        checkpoint: the language model that the kind `text` begins from.
        state: where the kind `text` keeps its training, to go on after a kill.

    Raises UsageError for rows of several pairs or scorers, too few rows, or none with features in common.
    """
    pair = _one_pair(rows)
    _check_counts(rows, minimum)
    split = split_by_problem(rows, seed)
    for name, part in (("fit to", split.fit), ("report on", split.test)):
        if len({row.label for row in part}) < 2:
            raise UsageError(
                f"The {len(part)} rows to {name} are all of one class.",
                remedy="Collect rows of more problems, or give another seed.",
            )
    model: RouterModel
    too_long = 0
    if kind == "text":
        if checkpoint is None:
            raise UsageError("A router that reads text needs a checkpoint to begin from.")
        features: tuple[str, ...] = ()
        model, too_long = _fit_text(
            [*split.fit, *split.choose], checkpoint, training or TextTraining(), seed, state, progress
        )
    else:
        features = _features_in_common(rows)
        model = _fit_features(kind, split, features)
    fitted = split.fit if kind == "boosted" else [*split.fit, *split.choose]
    base_rate = sum(row.label for row in fitted) / len(fitted)
    model = model.shifted(_log_odds(base_rate))
    chances = [
        probability(model, features, row.problem, row.context, row.writers, row.draft, row.features)
        for row in split.test
    ]
    held_out = [(row, chance) for row, chance in zip(split.test, chances, strict=True) if chance is not None]
    if not held_out:
        raise UsageError(
            f"All {len(split.test)} rows to report on are too long for {checkpoint}.",
            remedy="Take a checkpoint with a longer context.",
        )
    report = measured(
        held_out,
        rows=len(rows),
        problems=len({row.problem for row in rows}),
        fitted=len(fitted),
        base_rate=base_rate,
        left_out_features=sorted({name for row in rows for name in row.features} - set(features)),
        too_long=too_long + chances.count(None),
        scorer=rows[0].scorer,
    )
    stored = save_router(
        out, pair=pair, features=features, model=model, base_rate=base_rate, report=report.model_dump(mode="json")
    )
    return stored, report


def split_by_problem(rows: Sequence[RouterRow], seed: int) -> Split:
    """Deal problems out, by their text: the same problem under two names stays together."""
    problems = sorted({row.problem for row in rows})
    if len(problems) < 5:
        raise UsageError(
            f"The rows are of {len(problems)} problems, and some must be held out: at least 5 are needed.",
            remedy="Collect rows of more problems.",
        )
    random.Random(seed).shuffle(problems)  # noqa: S311 - a split, not a secret
    test = max(1, round(_TEST * len(problems)))
    choose = max(1, round(_CHOOSE * len(problems)))
    place = {problem: i for i, problem in enumerate(problems)}
    return Split(
        fit=[row for row in rows if place[row.problem] >= test + choose],
        choose=[row for row in rows if test <= place[row.problem] < test + choose],
        test=[row for row in rows if place[row.problem] < test],
    )


def _one_pair(rows: Sequence[RouterRow]) -> Pair:
    if not rows:
        raise UsageError("There are no rows.", remedy="Collect some with the policy `collect` of arbitrage.")
    first = rows[0]
    for row in rows:
        if not first.pair.is_of(row.pair):
            raise UsageError(
                f"The rows are of two pairs of models: {first.pair}, and {row.pair}.",
                remedy="Fit one router for each pair.",
            )
        if (row.scorer, row.proposition) != (first.scorer, first.proposition):
            raise UsageError(
                f"The rows were scored by two verifiers: {first.scorer} ({first.proposition}), and {row.scorer} "
                f"({row.proposition}). Their scores do not compare.",
                remedy="Fit to the rows of one scorer.",
            )
    return first.pair


def _check_counts(rows: Sequence[RouterRow], minimum: int) -> None:
    if minimum < 2:
        raise UsageError(f"A class needs two rows at the very least, got a minimum of {minimum}.")
    better = sum(row.label for row in rows)
    if min(better, len(rows) - better) < minimum:
        raise UsageError(
            f"There are {better} rows in which the target was better and {len(rows) - better} in which it was not; "
            f"{minimum} of each are needed.",
            remedy="Collect more rows; for trying out, fewer will do with --min-rows (minimum=…).",
        )


def _features_in_common(rows: Sequence[RouterRow]) -> tuple[str, ...]:
    """Names that every row has, in alphabetical order."""
    names = set(rows[0].features)
    for row in rows:
        names &= set(row.features)
    if not names:
        raise UsageError(
            "No feature is in all rows.",
            remedy="Collect with a draft model that tells log-probabilities, or fit a router that reads text.",
        )
    return tuple(sorted(names))


def _fit_features(kind: Kind, split: Split, features: Sequence[str]) -> RouterModel:
    if kind == "boosted":
        return fit_boosted(_balanced(split.fit, features), _balanced(split.choose, features), Boosting())
    rows = _balanced([*split.fit, *split.choose], features)
    return fit_logistic(rows.values, rows.labels, rows.weights)


def _balanced(rows: Sequence[RouterRow], features: Sequence[str]) -> Rows:
    """Arrays in which both classes weigh the same; the weights sum to the number of rows."""
    import numpy as np

    labels = np.array([float(row.label) for row in rows])
    weights = np.ones(len(rows))
    for label in (0.0, 1.0):
        of_class = labels == label
        if of_class.any() and not of_class.all():
            weights[of_class] = len(rows) / (2.0 * of_class.sum())
    return Rows(_matrix(rows, features), labels, weights)


def _matrix(rows: Sequence[RouterRow], features: Sequence[str]) -> NDArray[np.float64]:
    import numpy as np

    return np.array([[row.features[name] for name in features] for row in rows], dtype=np.float64)


def _fit_text(
    rows: list[RouterRow], checkpoint: Path, training: TextTraining, seed: int, state: Path | None, progress: Report
) -> tuple[TextHead, int]:
    draw = random.Random(seed)  # noqa: S311 - which rows are dropped, not a secret
    classes = [[row for row in rows if row.label == label] for label in (0, 1)]
    size = min(map(len, classes))
    kept = [row for rows_of_class in classes for row in draw.sample(rows_of_class, size)]
    texts = [annotated(row.problem, [*row.context, row.draft], [*row.writers, "draft"]) for row in kept]
    return fit_text_head(texts, [row.label for row in kept], checkpoint, training, state=state, report=progress)


def _log_odds(share: float) -> float:
    return math.log(share / (1.0 - share))
