"""`draftproof run … --sweep`: one pass over the problems for each policy and threshold, measured side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import isnan
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import typer

from draftproof.errors import ExitStatus, InputError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from draftproof.batch.solved import Solved
    from draftproof.batch.sweep_measures import Measured, Setting
    from draftproof.cli.run_folder import RunFolder
    from draftproof.cli.run_job import Job
    from draftproof.cli.run_setup import Setup
    from draftproof.rejects import RejectsFile
    from draftproof.store.verdict_store import VerdictStore

GRIDS: dict[str, tuple[float, ...]] = {
    "rsd": (0.1, 0.3, 0.5, 0.7, 0.9),
    "router": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "oracle": (0.0,),
    "glimp-router": (0.01, 0.05, 0.1, 0.3, 0.6, 0.9, 1.2),
    "spec-reason": (1.0, 3.0, 5.0, 7.0, 9.0),
}
"""Thresholds on each policy's own scale: rewards and probabilities, nats, digits."""
_REWARDS_WANTED = "RSD needs rewards that a model gives, such as --verifier process-reward:model=DIR"
SERIES = {
    "draft-only": "draft only",
    "target-only": "target only",
    "rsd": "RSD",
    "exact": "exact rewards",
    "router": "router",
    "oracle": "oracle",
    "glimp-router": "GlimpRouter",
    "spec-reason": "SpecReason",
}
SETTINGS_FILE = "sweep.jsonl"


def sweep_settings(
    pipeline: str,
    *,
    models: tuple[str, str],
    policy: str | None,
    verifier: str | None,
    router: str | None,
    thresholds: str | None,
    given: Sequence[str],
    seed: int,
    api_key_env: str | None = None,
) -> list[tuple[Setting, Setup]]:
    """What is to be run: always the draft model and the target alone, then every threshold of every policy.

    Arbitrage is swept with all of its policies that can be, and GlimpRouter beside them; with `policy`, that one alone.
    RSD is among them where a verifier is named: what is known of the pocket problems is the truth, and no reward model
    tells that. Named all the same, it is drawn as what it is.
    """
    from draftproof.batch.sweep_measures import Setting
    from draftproof.cli.run_setup import POCKET_VERIFIER, listing_of, set_up, verifier_for
    from draftproof.cli.screen import say

    if pipeline not in SERIES and pipeline != "arbitrage":
        raise UsageError(f"{pipeline} has no threshold to sweep.")
    if policy in ("collect", "draft-only", "target-only"):
        raise UsageError(f"The policy {policy} has no threshold to sweep.", remedy="rsd, router and oracle have.")
    if policy is not None and policy not in listing_of(pipeline).policies:
        known = "There are: rsd, router, oracle." if pipeline == "arbitrage" else "It has none."
        raise UnknownNameError(f"There is no policy {policy!r} of {pipeline}.", remedy=known)
    numbers = parse_thresholds(thresholds)
    arbitrage = listing_of("arbitrage")
    swept = _swept(pipeline, policy, router)
    if "rsd" in swept and verifier is None:
        if policy == "rsd" or pipeline != "arbitrage":
            raise UsageError(f"{_REWARDS_WANTED}.", remedy="draftproof verifiers list shows what there is.")
        say(f"RSD is left out: {_REWARDS_WANTED}.")
        swept.remove("rsd")
    base = set_up(
        pipeline,
        models=models,
        policy="draft-only" if pipeline == "arbitrage" else None,
        given=given,
        seed=seed,
        api_key_env=api_key_env,
    )
    made: list[tuple[Setting, Setup]] = []
    for each in ("draft-only", "target-only"):
        alone = base.varied(arbitrage, policy=each)
        made.append((Setting(SERIES[each], "arbitrage", each, None), alone))
    for each in swept:
        of_arbitrage = each in arbitrage.policies
        listing = arbitrage if of_arbitrage else listing_of(each)
        options: dict[str, Any] = {}
        if of_arbitrage:
            named = f"router:file={router}" if each == "router" and router is not None else verifier
            options = {"policy": each, "verifier": verifier_for(listing, each, named, models)}
        exact = each == "rsd" and getattr(options.get("verifier"), "name", "") == POCKET_VERIFIER
        series = SERIES["exact" if exact else each]
        own = numbers if numbers is not None and not (each == "glimp-router" and pipeline == "arbitrage") else None
        for threshold in own or GRIDS[each]:
            setup = base.varied(listing, **options, threshold=threshold)
            setup.check()
            made.append((Setting(series, listing.name, each if of_arbitrage else None, threshold), setup))
    return made


def _swept(pipeline: str, policy: str | None, router: str | None) -> list[str]:
    if pipeline != "arbitrage":
        return [pipeline]
    if policy is not None:
        return [policy]
    return ["rsd", *(["router"] if router is not None else []), "oracle", "glimp-router"]


def parse_thresholds(text: str | None) -> list[float] | None:
    """`0,0.5,1` as numbers, each once, in order."""
    if text is None:
        return None
    try:
        numbers = sorted({float(part) for part in text.split(",")})
    except ValueError as error:
        raise UsageError(f"--thresholds {text!r} is no list of numbers.", remedy="Write 0,0.5,1.") from error
    if any(isnan(number) for number in numbers):
        raise UsageError("A threshold is a number, not NaN.")
    return numbers


def run_sweep(
    settings: Sequence[tuple[Setting, Setup]],
    store: VerdictStore,
    job: Job,
    sink: RejectsFile,
    folder: RunFolder,
    store_argument: str,
) -> None:
    """Every setting, one after the other, each a run of its own in the store, all of them one sweep."""
    from draftproof.batch.route_counts import counts_of_course
    from draftproof.batch.sweep_measures import measure
    from draftproof.cli.run_folder import RESULTS
    from draftproof.cli.run_job import solve
    from draftproof.cli.run_summary import conservation_line, rejects_lines
    from draftproof.cli.screen import say, visible
    from draftproof.cli.sweep_report import write_report
    from draftproof.rejects import RejectsList

    sweep = str(uuid4())
    measured: list[Measured] = []
    failed = 0
    for number, (setting, setup) in enumerate(settings, start=1):
        solved: list[Solved] = []

        def keep(one: Solved, _output: Any, setting: Setting = setting, solved: list[Solved] = solved) -> None:
            folder.add(RESULTS, {"setting": str(setting), **one.as_json()})
            solved.append(replace(one, text=""))

        more: Mapping[str, Any] = {"sweep": sweep, "series": setting.series}
        title = f"{number}/{len(settings)} {setting}"
        rejects = sink if number == 1 else RejectsList()
        run = solve(setup, store, job, rejects, title=title, rows=False, more=more, on_solved=keep)
        failed += run.tally.failed
        say(f"{title}: {conservation_line(run.tally, sink.count)}")
        if not solved:
            raise InputError(f"{job.file} holds no problem that could be read.", remedy="See the rejects file.")
        measured.append(measure(setting, run.id, solved, partial(counts_of_course, store)))
        folder.add(SETTINGS_FILE, measured[-1].as_json())
    first = settings[0][1]
    models = f"{first.draft.identity} and {first.target.identity}, {job.workers} at once"
    write_report(measured, folder, models=models, as_json=job.as_json)
    for line in rejects_lines({str(sink.path): sink.count} if sink.count else {}):
        say(visible(line))
    say(f"Look further: draftproof runs show {measured[-1].run[:8]} --sweep{store_argument}")
    raise typer.Exit(ExitStatus.ITEMS_FAILED if sink.count or failed else ExitStatus.SETTLED)
