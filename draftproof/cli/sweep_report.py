"""What a sweep shows: a table of its settings, and accuracy drawn against acceptance, latency and target tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from draftproof.plots.chart import Axis, Point, Series, chart

if TYPE_CHECKING:
    from pathlib import Path

    from rich.text import Text

    from draftproof.batch.sweep_measures import Measured
    from draftproof.cli.run_folder import RunFolder
    from draftproof.metrics.bootstrap import Interval

_FILE_WIDTH = 140
"""Characters of the table where it goes into a file or pipe."""
_ACCURACY = Axis("accuracy (% of problems)", within=(0.0, 1.0), percent=True)
_LATENCY = Axis("mean wall clock of a problem (s)", within=(0.0, float("inf")))
_CHARTS: dict[str, tuple[str, Axis, Callable[[Measured], Interval]]] = {
    "accuracy-by-acceptance.svg": (
        "Accuracy and acceptance",
        Axis("acceptance: steps written by the draft model (%)", within=(0.0, 1.0), percent=True),
        lambda each: each.acceptance,
    ),
    "accuracy-by-latency.svg": (
        "Accuracy and latency",
        _LATENCY,
        lambda each: each.seconds,
    ),
    "accuracy-by-target-tokens.svg": (
        "Accuracy and target tokens",
        Axis("mean tokens written by the target, a problem", within=(0.0, float("inf"))),
        lambda each: each.target_tokens,
    ),
}


def write_report(measured: Sequence[Measured], folder: RunFolder | None, *, models: str, as_json: bool) -> None:
    """Prints the table, or JSON lines, and draws the charts into the folder where there is one."""
    from draftproof.cli.screen import say

    if as_json:
        for each in measured:
            print(json.dumps(each.as_json()))
    else:
        print_table(measured)
    if folder is not None:
        for path in draw(measured, folder, models=models):
            say(f"drawn: {path}")


def draw(measured: Sequence[Measured], folder: RunFolder, *, models: str) -> list[Path]:
    """The charts that there are numbers for."""
    problems = max(each.problems for each in measured)
    note = f"{problems:,} problems · {models} · bars: 95 % bootstrap intervals over problems"
    written = []
    for name, (title, axis, across) in _CHARTS.items():
        if axis is _LATENCY:
            least, most = min(each.timed for each in measured), max(each.timed for each in measured)
            timed = f"{most:,}" if least == most else f"{least:,} to {most:,}"
            axis = replace(axis, label=f"{axis.label}, of the {timed} that this run solved itself")
        series = _series(measured, across)
        if any(each.points for each in series):
            written.append(folder.write(name, chart(title, axis, _ACCURACY, series, note=note)))
    return written


def _series(measured: Sequence[Measured], across: Callable[[Measured], Interval]) -> list[Series]:
    by_name: dict[str, list[Point]] = {}
    for each in measured:
        points = by_name.setdefault(each.setting.series, [])
        x, y = across(each).value, each.accuracy
        if x is None or y.value is None:
            continue
        threshold = each.setting.threshold
        mark = "" if threshold is None else f"{threshold:g}"
        says = f"{each.setting}: accuracy {y.value:.1%}{_ends(y)}, {across(each).value:.4g} across, run {each.run[:8]}"
        points.append(Point(x, y.value, y.low, y.high, says, mark))
    single = {"draft only", "target only"}
    return [Series(name, tuple(points), level=name in single) for name, points in by_name.items()]


def print_table(measured: Sequence[Measured]) -> None:
    from rich.table import Table

    from draftproof.batch.route_counts import unjudged_line
    from draftproof.cli.screen import out, plain, say, visible

    screen = out()
    if not screen.is_terminal:
        screen.width = max(screen.width, _FILE_WIDTH)
    table = Table(box=None, padding=(0, 1), header_style="dim")
    columns: dict[str, Callable[[Measured], Text]] = {
        "setting": lambda each: plain(str(each.setting), "bold"),
        "problems": lambda each: plain(f"{each.problems:,}", "dim"),
        "accuracy [95 %]": lambda each: plain(_percent(each.accuracy.value)) + plain(_ends(each.accuracy), "dim"),
        "accepted": lambda each: plain(_percent(each.acceptance.value)),
        "target tokens": lambda each: plain(_number(each.target_tokens.value, 1)),
        "draft tokens": lambda each: plain(_number(each.draft_tokens.value, 1)),
        "s/problem": lambda each: plain(_number(each.seconds.value, 3)),
        "p95": lambda each: plain(_number(each.p95_seconds, 3), "dim"),
        "timed": lambda each: plain(f"{each.timed:,}", "dim"),
        "not judged": lambda each: plain(
            f"{sum(each.unjudged.values()):,} of {each.decided:,}", "yellow" if each.unjudged else "dim"
        ),
        "errors": lambda each: plain(f"{each.failed:,}", "yellow" if each.failed else "dim"),
    }
    if not any(each.unjudged for each in measured):
        del columns["not judged"]
    if all(each.timed == each.problems - each.failed for each in measured):
        del columns["timed"]
    for name in columns:
        table.add_column(name, justify="left" if name == "setting" else "right", no_wrap=True)
    for each in measured:
        table.add_row(*(cell(each) for cell in columns.values()))
    screen.print(table)
    for each in measured:
        if each.unjudged:
            line = unjudged_line(each.decided, each.unjudged)
            say(visible(f"{each.setting}: {line}"))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _ends(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return ""
    return f" [{100 * interval.low:.1f}–{100 * interval.high:.1f}]"
