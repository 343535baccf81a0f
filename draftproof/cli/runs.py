"""`draftproof runs`: what was run, with what, and how well it agrees with labels."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from draftproof.cli.options import Json, Limit, Store, store_url

if TYPE_CHECKING:
    from draftproof.batch.metrics import Measure
    from draftproof.batch.tally import Tally
    from draftproof.store.records import Conservation, Run
    from draftproof.store.verdict_store import VerdictStore

app = typer.Typer(no_args_is_help=True, help="List runs; show one with its provenance, counts and measures.")


@app.command("list", help="Runs of the store, the newest first. Canaries are shown with the run that they belong to.")
def list_(store: Store = None, limit: Limit = 20, json_output: Json = False) -> None:
    from rich.table import Table

    from draftproof.batch.canaries import is_of_canaries
    from draftproof.cli.screen import one_line, out, plain
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        found = opened.runs(limit=None if limit is None else 2 * limit)  # a run has one of canaries at most
    runs = [run for run in found if not is_of_canaries(run)][:limit]
    if json_output:
        for run in runs:
            print(json.dumps(_run_json(run)))
        return
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for name in ("run", "started", "status", "traces", "verifiers", "command"):
        table.add_column(name)
    for run in runs:
        table.add_row(
            plain(run.id[:8], "bold"),
            plain(run.started_at[:19].replace("T", " ")),
            plain(run.status.value, "green" if run.status == "finished" else "yellow"),
            plain(str(run.counts.get("traces", ""))),
            plain(", ".join(verifier.identity.partition("@")[0] for verifier in run.verifiers)),
            plain(one_line(run.command, 60), "dim"),
        )
    out().print(table)


@app.command("show", help="One run: provenance, where its pairs went, and its agreement with step labels.")
def show(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, or the start of one.")],
    against_labels: Annotated[
        bool,
        typer.Option(
            "--against-labels",
            help="Compare rejections with the traces' step labels: ProcessBench accuracies and F1, "
            "first-error location, precision and recall of steps, with 95 % intervals.",
        ),
    ] = False,
    sweep: Annotated[
        bool,
        typer.Option(
            "--sweep",
            help="Of a run of a sweep: all of its settings, measured side by side, instead of the run itself.",
        ),
    ] = False,
    out_: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="With --sweep: draw the charts into this folder.")
    ] = None,
    store: Store = None,
    json_output: Json = False,
) -> None:
    from draftproof.batch.canaries import canary_lines
    from draftproof.cli.screen import out, plain
    from draftproof.cli.summary import conservation_json, conservation_line
    from draftproof.store.verdict_store import VerdictStore

    with VerdictStore.open(store_url(store), create=False, read_only=True) as opened:
        found = opened.run(run)
        if sweep:
            _show_sweep(opened, found, out_, json_output)
            return
        totals = opened.conservation(found.id)
        tally = _tally(opened, found, totals)
        measures = _against_labels(opened, found) if against_labels else None
    if json_output:
        shown = _run_json(found) | {"conservation": [conservation_json(total) for total in totals]}
        if tally is not None:
            shown["pipeline"] = tally.as_json()
        if measures is not None:
            shown["against_labels"] = {
                name: {m.name: dataclasses.asdict(m) for m in each} for name, each in measures.items()
            }
        print(json.dumps(shown))
        return
    screen = out()
    for name, value in _provenance(found):
        screen.print(plain(f"{name:>12}  ", "dim") + plain(value))
    for total in totals:
        screen.print(
            plain(f"{total.verifier.partition('@')[0]:>12}  ", "dim") + plain(conservation_line(total)), soft_wrap=True
        )
    for line in canary_lines(found.counts):
        screen.print(plain("    canaries  ", "dim") + plain(line), soft_wrap=True)
    if tally is not None:
        from draftproof.cli.run_summary import summary_lines

        screen.print()
        alone = "draft" in found.settings and found.settings["draft"] is None
        for line in summary_lines(tally, int(found.counts.get("rejected", 0)), alone=alone):
            screen.print(plain(line), soft_wrap=True)
    if measures is not None:
        _print_measures(measures)


def _tally(store: VerdictStore, run: Run, totals: list[Conservation]) -> Tally | None:
    """Of a pipeline run: what became of its problems."""
    from draftproof.batch.courses import is_pipeline_run, solved_of_run
    from draftproof.batch.route_counts import counts_of_course
    from draftproof.batch.tally import Tally

    if not is_pipeline_run(run):
        return None
    planned = next(total for total in totals if total.planned)
    tally = Tally(read=planned.subjects - planned.skipped)  # what was skipped was begun again as another attempt
    for solved in solved_of_run(store, run):
        tally.add(solved, counts_of_course(store, solved.opening))
    return tally


def _show_sweep(store: VerdictStore, run: Run, folder: Path | None, as_json: bool) -> None:
    """Settings are compared over the same problems only: unfinished runs are left out, and problems that not every
    other run has."""
    from draftproof.batch.courses import solved_of_run, sweep_runs
    from draftproof.batch.route_counts import counts_of_course
    from draftproof.batch.sweep_measures import Setting, measure
    from draftproof.cli.run_folder import RunFolder
    from draftproof.cli.screen import say, visible
    from draftproof.cli.sweep_report import write_report
    from draftproof.errors import UsageError
    from draftproof.store.records import RunStatus

    runs = []
    for each in sweep_runs(store, run):
        if each.status is RunStatus.FINISHED:
            runs.append(each)
        else:
            say(visible(f"left out: {Setting.recorded(each.settings)}, run {each.id[:8]}, is {each.status.value}"))
    if not runs:
        raise UsageError("No setting of this sweep was finished.", remedy="Run its command again: it goes on.")
    solved = {each.id: list(solved_of_run(store, each)) for each in runs}
    common = set.intersection(*({one.problem.text for one in of_run} for of_run in solved.values()))
    if not common:
        raise UsageError("The settings of this sweep have no problem in common.")
    if any(one.problem.text not in common for of_run in solved.values() for one in of_run):
        say(f"compared over the {len(common):,} problems that all settings have")
    measured = [
        measure(
            Setting.recorded(each.settings),
            each.id,
            [one for one in solved[each.id] if one.problem.text in common],
            partial(counts_of_course, store),
        )
        for each in runs
    ]
    models = f"{run.settings['draft']} and {run.settings['target']}, {run.settings['workers']} at once"
    write_report(measured, None if folder is None else RunFolder(folder), models=models, as_json=as_json)


def _run_json(run: Run) -> dict[str, object]:
    return json.loads(json.dumps(dataclasses.asdict(run), default=str))  # type: ignore[no-any-return]


def _provenance(run: Run) -> list[tuple[str, str]]:
    packages = ", ".join(f"{name} {version}" for name, version in run.packages.items())
    return [
        ("run", run.id),
        ("command", run.command),
        ("status", f"{run.status.value}, {run.started_at} to {run.finished_at or '…'}"),
        ("host", f"{run.host}, {run.platform}, Python {run.python_version}"),
        ("draftproof", run.draftproof_version + (f", commit {run.git_commit}" if run.git_commit else "")),
        ("packages", packages),
        ("settings", json.dumps(dict(run.settings))),
        ("config", run.config_digest),
        *(("input", json.dumps(dict(each))) for each in run.inputs),
        *(("verifier", f"{v.identity}  {json.dumps(dict(v.arguments) | dict(v.fingerprint))}") for v in run.verifiers),
        ("counts", json.dumps(dict(run.counts))),
    ]


def _against_labels(store: VerdictStore, run: Run) -> dict[str, list[Measure]]:
    """Measures of each verifier of step granularity, and of all together, where a step is rejected by any."""
    from draftproof.batch.metrics import Counts, count, measure
    from draftproof.store.queries import VerdictFilter
    from draftproof.verdict import Outcome

    rejected: dict[str, dict[str, set[int]]] = {}
    for verdict in store.iter_verdicts(VerdictFilter(run=run.id, outcome=Outcome.REJECT)):
        key = verdict.subject
        for name in (verdict.verifier.partition("#")[0], "any verifier"):
            rejected.setdefault(name, {}).setdefault(key.trace_digest, set()).add(key.position)
    names = [verifier.identity.partition("#")[0] for verifier in run.verifiers]
    together = ("any verifier",) if len(names) > 1 else ()
    labelled: dict[str, list[tuple[str, Counts]]] = {name: [] for name in (*names, *together)}
    for trace in store.run_traces(run.id):
        for name, collected in labelled.items():
            counts = count(trace, rejected.get(name, {}).get(trace.digest, ()))
            if counts is not None:
                collected.append((trace.problem, counts))
    return {name: measure(collected) for name, collected in labelled.items()}


def _print_measures(measures: dict[str, list[Measure]]) -> None:
    from rich.table import Table

    from draftproof.batch.metrics import EXPLANATIONS
    from draftproof.cli.screen import out, plain

    screen = out()
    if not any(m.of for each in measures.values() for m in each):
        screen.print("The traces of this run have no step labels to compare with.")
        return
    for name, each in measures.items():
        table = Table(box=None, padding=(0, 2), header_style="dim", title=plain(name, "bold"), title_justify="left")
        for column in ("measure", "value", "95 % interval", "of"):
            table.add_column(column, justify="right" if column in ("value", "of") else "left", no_wrap=True)
        for m in each:
            value = "–" if m.value is None else f"{100 * m.value:.1f} %"
            interval = "–" if m.low is None or m.high is None else f"{100 * m.low:.1f} – {100 * m.high:.1f}"
            of = "" if m.of is None else f"{m.hits:,}/{m.of:,}"
            table.add_row(plain(m.name, "bold"), plain(value), plain(interval, "dim"), plain(of))
        screen.print(table)
    screen.print()
    for name, explanation in EXPLANATIONS.items():
        screen.print(plain(f"{name}: {explanation}", "dim"), soft_wrap=True)
