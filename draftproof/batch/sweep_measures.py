"""What one setting of a sweep came to: acceptance, accuracy, latency and tokens, with intervals over problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from draftproof.batch.route_counts import RouteCounts
from draftproof.batch.solved import Solved
from draftproof.batch.tally import Tally
from draftproof.metrics.bootstrap import Interval, bootstrap


@dataclass(frozen=True)
class Setting:
    """A policy at a threshold."""

    series: str
    """What it belongs to in a chart: draft only, RSD, …"""
    pipeline: str
    policy: str | None
    threshold: float | None

    @classmethod
    def recorded(cls, settings: Mapping[str, Any]) -> Setting:
        """From the settings of a stored run."""
        threshold = settings["threshold"]
        return cls(
            settings["series"],
            settings["pipeline"],
            settings["policy"],
            None if threshold is None else float(threshold),
        )

    def __str__(self) -> str:
        return self.series if self.threshold is None else f"{self.series} {self.threshold:g}"


@dataclass(frozen=True)
class Measured:
    """A setting with what it came to. Intervals are percentile bootstraps over problems, at 95 %."""

    setting: Setting
    run: str
    problems: int
    failed: int
    timed: int
    """Problems that the latencies are of: those that this run itself solved. What an earlier run had solved took its
    time then, in other company."""
    decided: int
    """Steps that somebody had to decide about."""
    unjudged: dict[str, int]
    """Of those, by reason, what nobody could judge."""
    accuracy: Interval
    acceptance: Interval
    """Share of steps that the draft model wrote."""
    seconds: Interval
    """Mean wall clock a problem, of the timed ones."""
    p95_seconds: float | None
    target_tokens: Interval
    """Mean a problem, of all that the target wrote, kept or not."""
    draft_tokens: Interval
    counts: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        told = asdict(self)
        threshold = self.setting.threshold
        if threshold is not None and not isfinite(threshold):
            told["setting"]["threshold"] = str(threshold)  # JSON has no infinity
        return told


def measure(setting: Setting, run: str, solved: Sequence[Solved], routes: Callable[[str], RouteCounts]) -> Measured:
    """The measures of all problems of a setting. A failure is a wrong answer; it has no latency and no steps.

    `routes` tells how the steps of an opening were decided; see `draftproof.batch.route_counts`.
    """
    solved = sorted(solved, key=lambda one: (one.problem.line, one.problem.text))  # the same draws, whoever was first
    tally = Tally()
    for one in solved:
        tally.read += 1
        tally.add(one, routes(one.opening))
    ended = [one for one in solved if not one.failed]
    referenced = [one for one in solved if one.problem.answer is not None]
    timed = [one for one in ended if not one.known]
    seconds = [one.seconds for one in timed]
    return Measured(
        setting=setting,
        run=run,
        problems=len(solved),
        failed=tally.failed,
        timed=len(timed),
        decided=tally.routes.decided,
        unjudged=dict(tally.routes.unjudged),
        accuracy=_interval(referenced, _mean, [one.correct is True for one in referenced]),
        acceptance=_interval(ended, _share, [_by(one, "draft") for one in ended], [_steps(one) for one in ended]),
        seconds=_interval(timed, _mean, seconds),
        p95_seconds=float(np.quantile(seconds, 0.95)) if seconds else None,
        target_tokens=_interval(ended, _mean, [one.counts.get("target_tokens", 0) for one in ended]),
        draft_tokens=_interval(ended, _mean, [_draft_tokens(one) for one in ended]),
        counts=tally.counts,
    )


def _interval(
    solved: Sequence[Solved], statistic: Callable[..., float | None], *columns: Sequence[float | bool]
) -> Interval:
    """Lines of one problem belong together: they are drawn together."""
    if not solved:
        return Interval(None, None, None, 0)
    return bootstrap(statistic, [one.problem.text for one in solved], *columns)


def _mean(values: Any) -> float:
    return float(values.mean())


def _share(part: Any, whole: Any) -> float | None:
    total = whole.sum()
    return float(part.sum() / total) if total else None


def _by(one: Solved, role: str) -> int:
    return sum(block.role == role for block in one.blocks)


def _steps(one: Solved) -> int:
    return _by(one, "draft") + _by(one, "target")


def _draft_tokens(one: Solved) -> int:
    return one.counts.get("draft_tokens_kept", 0) + one.counts.get("draft_tokens_discarded", 0)
