"""What a routing sweep says about its policies: operating points, areas between curves, and wasted escalations.

A policy's threshold is chosen on problems of its own (`choose`); what is then said of it (`bars`) is measured on
others, with intervals from resampling those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from draftproof.metrics.bootstrap import bootstrap, paired_difference
from draftproof.metrics.routing import area_between

Row = dict[str, Any]
Rows = Mapping[tuple[str, float], Sequence[Row]]
Columns = dict[str, NDArray[np.float64]]
"""Name -> [problems]."""

SHARES = {"router": 0.5, "rsd": 0.5, "glimpse": 0.6}
"""Of the target-only tokens, what a policy may spend."""
TARGET, DRAFT = ("target-only", 0.0), ("draft-only", 0.0)
NAMES = ("right", "kept", "steps", "target_tokens", "wasted", "escalated_after_draft")
RESAMPLES = 500
SAME_SCORER = "router-of-prm"
"""The router whose rows were scored by the reward model that RSD decides by."""


def choose(rows: Rows) -> dict[str, float]:
    """Of each policy the most accurate threshold among those that spend no more than its share, the cheapest of
    several."""
    most = sum(row["target_tokens"] for row in rows[TARGET])
    chosen: dict[str, tuple[int, float, float]] = {}
    for (policy, threshold), each in rows.items():
        spent = sum(row["target_tokens"] for row in each)
        if policy in SHARES and spent <= SHARES[policy] * most:
            rank = (sum(row["right"] for row in each), -spent, threshold)
            chosen[policy] = max(chosen.get(policy, rank), rank)
    return {policy: rank[2] for policy, rank in chosen.items()}


def bars(rows: Rows, chosen: Mapping[str, float]) -> Row:
    columns = {setting: _columns(each) for setting, each in rows.items()}
    told: Row = {"comparison": True, "resamples": RESAMPLES}
    for policy, threshold in chosen.items():
        if (policy, threshold) in columns:
            told[policy] = _operating_point(threshold, columns[policy, threshold], columns[TARGET])
    if all(any(policy == wanted for policy, _ in columns) for wanted in ("rsd", "router", "oracle")):
        told |= _curves(columns)
    return told


def _columns(rows: Sequence[Row]) -> Columns:
    ordered = sorted(rows, key=lambda row: row["problem"])
    return {name: np.array([float(row[name]) for row in ordered]) for name in NAMES}


def _operating_point(threshold: float, mine: Columns, alone: Columns) -> Row:
    problems = list(range(len(mine["right"])))
    lead = paired_difference(_mean, problems, [alone["right"]], [mine["right"]])
    accuracy = bootstrap(_mean, problems, mine["right"])
    share = bootstrap(_ratio, problems, mine["target_tokens"], alone["target_tokens"])
    return {
        "threshold": threshold,
        "accuracy": accuracy.value,
        "accuracy_interval": [accuracy.low, accuracy.high],
        "accuracy_less_target_only": lead.value,
        "interval": [lead.low, lead.high],
        "target_tokens_share": share.value,
        "share_interval": [share.low, share.high],
        "acceptance": _ratio(mine["kept"], mine["steps"]),
        "wasted_escalations": _ratio(mine["wasted"], mine["escalated_after_draft"]),
    }


def _curves(columns: Mapping[tuple[str, float], Columns]) -> Row:
    """Router and RSD between the two models alone, and the oracle above them."""
    count = len(columns[TARGET]["right"])
    whole = np.arange(count)
    statistics: dict[str, Callable[[NDArray[np.int64]], float | None]] = {
        "area_router_over_rsd": lambda chosen: _area(columns, "router", "rsd", chosen),
        "area_oracle_over_rsd": lambda chosen: _area(columns, "oracle", "rsd", chosen),
        "gap_closed": lambda chosen: _closed(columns, chosen),
        "least_lead_of_router_over_rsd": lambda chosen: _least_lead(columns, chosen)[0],
        "waste_of_router_less_rsd": lambda chosen: _waste(columns, chosen),
    }
    if any(policy == SAME_SCORER for policy, _ in columns):
        statistics |= {
            "area_router_of_prm_over_rsd": lambda chosen: _area(columns, SAME_SCORER, "rsd", chosen),
            "gap_closed_by_router_of_prm": lambda chosen: _closed(columns, chosen, SAME_SCORER),
            "least_lead_of_router_of_prm_over_rsd": lambda chosen: _least_lead(columns, chosen, SAME_SCORER)[0],
        }
    told: Row = {"least_lead_at_acceptance": _least_lead(columns, whole)[1]}
    draw = np.random.default_rng(0)
    resampled = [draw.integers(count, size=count) for _ in range(RESAMPLES)]
    for name, statistic in statistics.items():
        value = statistic(whole)
        found = [each for each in map(statistic, resampled) if each is not None]
        told[name] = value
        told[f"{name}_interval"] = [float(q) for q in np.quantile(found, [0.025, 0.975])] if found else None
    return told


def _points(
    columns: Mapping[tuple[str, float], Columns], policy: str, chosen: NDArray[np.int64]
) -> list[tuple[float, float]]:
    """(acceptance, accuracy) of every setting, with those of the two models alone."""
    settings = [each for (name, _), each in columns.items() if name == policy] + [columns[DRAFT], columns[TARGET]]
    return [
        (float(each["kept"][chosen].sum() / each["steps"][chosen].sum()), float(each["right"][chosen].mean()))
        for each in settings
    ]


def _area(columns: Mapping[tuple[str, float], Columns], first: str, second: str, chosen: Any) -> float | None:
    found = area_between(_points(columns, first, chosen), _points(columns, second, chosen))
    return None if found is None else found.area


def _closed(columns: Mapping[tuple[str, float], Columns], chosen: Any, router: str = "router") -> float | None:
    gained, possible = (_area(columns, policy, "rsd", chosen) for policy in (router, "oracle"))
    return gained / possible if gained is not None and possible is not None and possible > 0 else None


def _least_lead(
    columns: Mapping[tuple[str, float], Columns], chosen: Any, router: str = "router"
) -> tuple[float, float]:
    """How far the router's curve is above RSD's where it is least so, and that acceptance. Below 0: under it."""
    grid = np.linspace(0.02, 0.98, 49)
    mine, other = (_along(_points(columns, policy, chosen), grid) for policy in (router, "rsd"))
    at = int(np.argmin(mine - other))
    return float((mine - other)[at]), float(grid[at])


def _waste(columns: Mapping[tuple[str, float], Columns], chosen: Any) -> float | None:
    """Mean difference of wasted escalations at equal acceptance, over what both policies reach."""
    curves = []
    for policy in ("router", "rsd"):
        points = []
        for (name, _), each in columns.items():
            escalated = each["escalated_after_draft"][chosen].sum()
            if name == policy and escalated:
                accepted = each["kept"][chosen].sum() / each["steps"][chosen].sum()
                points.append((float(accepted), float(each["wasted"][chosen].sum() / escalated)))
        curves.append(points)
    low = max(min(x for x, _ in points) for points in curves if points)
    high = min(max(x for x, _ in points) for points in curves if points)
    if not all(curves) or low >= high:
        return None
    grid = np.linspace(low, high, 49)
    return float(np.mean(_along(curves[0], grid) - _along(curves[1], grid)))


def _along(points: Sequence[tuple[float, float]], grid: NDArray[np.float64]) -> NDArray[np.float64]:
    """Linear between points; the mean of several at one place."""
    found: dict[float, list[float]] = {}
    for x, y in points:
        found.setdefault(x, []).append(y)
    places = sorted(found)
    return np.interp(grid, places, [float(np.mean(found[x])) for x in places])


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean())


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> float | None:
    total = float(below.sum())
    return float(above.sum()) / total if total else None
