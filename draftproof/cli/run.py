"""`draftproof run`: problems through a draft-and-target pipeline, every decision a stored verdict."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from draftproof.cli.options import Limit, Store, store_arguments, store_url
from draftproof.errors import ExitStatus, UsageError

if TYPE_CHECKING:
    from draftproof.batch.solved import Solved
    from draftproof.cli.run_folder import RunFolder
    from draftproof.cli.run_job import Job
    from draftproof.cli.run_setup import Setup
    from draftproof.rejects import RejectsFile
    from draftproof.store.verdict_store import VerdictStore

HELP = """Solve problems step by step with a cheap draft model and a better target model; store who wrote what, and why.

FILE holds a problem a line (`-` for standard input; `.gz` and `.zst` are unpacked): a JSON object with `problem`
or `question`, and perhaps `id` and `answer`, which no model sees. Without further options, the pocket pair solves
them: a draft and a target model of a few megabytes that come along and know small word problems.

    draftproof run glimp-router problems.jsonl
    draftproof run arbitrage problems.jsonl --policy rsd --threshold 0.9
    draftproof run spec-reason problems.jsonl --draft ./my-small --target ./my-large --set temperature=0.6
    draftproof run arbitrage problems.jsonl --sweep --out sweep

Pipelines:

- **arbitrage**: the draft model writes each step. `--policy rsd` keeps it where a verifier's score reaches the
  threshold; `router` where a fitted router thinks that the target would do no better; `oracle` writes both and takes
  the better; `collect` does so too, and writes the rows that a router is fitted to; `draft-only`, `target-only`.
- **glimp-router**: where the first token of a step is uncertain (entropy above the threshold, in nats), the target
  writes the step. The answer is always the target's. A negative threshold leaves everything to the target.
- **spec-reason**: the target rates each drafted step from 0 to 9, and rewrites those below the threshold. It has to
  follow instructions: the pocket target cannot rate, and every draft would be thrown away.
- **solve-detect-verify**: the target solves, a verifier checks, and what is wrong is tried again, critique in view.
  Only what the check accepts counts as solved.
- **best-of-n**: the target writes several solutions, and `--policy vote`, `score` or `weighted-vote` chooses.

On a terminal every problem is a row of blocks, one a step: green by the draft model, magenta by the target, and a dim
one where a draft was discarded. Every verdict is stored before anything is decided by it; draftproof verdicts show
tells the course of a problem again. Running the same command again resumes: what is solved is not solved again.

Where a verifier abstains or fails, the target writes. The summary says of how many steps that was, and why.

`--sweep` runs many thresholds, and draws accuracy against acceptance, latency and target tokens. RSD is among them
where `--verifier` names what gives rewards, such as a process reward model.

Exit status: 0 all came to an end · 3 some problems, or checks of solutions, errored, or lines were unreadable ·
6 the store cannot be used · 130/143 stopped, run the same command to go on."""

WORKERS = 8


def run(
    pipeline: Annotated[str, typer.Argument(metavar="PIPELINE", help="Which; see above, or --list.")],
    file: Annotated[str, typer.Argument(metavar="FILE", help="Problems, a JSON object a line; - for standard input.")],
    draft: Annotated[
        str,
        typer.Option(
            "--draft", "-d", metavar="M", help="Draft model: name, folder, .gguf, hub id, http://HOST:PORT/v1#MODEL."
        ),
    ] = "pocket-draft",
    target: Annotated[
        str, typer.Option("--target", "-t", metavar="M", help="Target model, named alike.")
    ] = "pocket-target",
    policy: Annotated[
        str | None,
        typer.Option("--policy", "-p", metavar="NAME", help="Of arbitrage and best-of-n. [default: rsd; vote]"),
    ] = None,
    verifier: Annotated[
        str | None,
        typer.Option(
            "--verifier",
            "-v",
            metavar="NAME[:key=value,…]",
            help="What a policy decides by: a verifier of steps, or a fitted router, router:file=FILE. "
            "[default: pocket-step, with the pocket pair]",
        ),
    ] = None,
    router: Annotated[
        str | None,
        typer.Option("--router", metavar="FILE", help="With --sweep: a fitted router, to be swept beside the others."),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option("--threshold", help="At equality the draft is kept. [default: the pipeline's own]"),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", "-s", metavar="KEY=VALUE", help="Any other setting; may be repeated. See --list."),
    ] = None,
    api_key_env: Annotated[
        str | None,
        typer.Option("--api-key-env", metavar="NAME", help="Environment variable with the key of models' servers."),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of sampling, with --set temperature=….")] = 0,
    store: Store = None,
    workers: Annotated[
        int, typer.Option("--workers", "-w", min=1, help="Problems solved at once; local models serve them together.")
    ] = WORKERS,
    limit: Limit = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            "--rejects",
            metavar="FILE",
            help="Where unreadable lines go; written anew by each run. [default: NAME.rejects.jsonl, in this folder]",
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Solve again, as another attempt, what errored before.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="Folder for results.jsonl, a router's rows.jsonl, a sweep's plots. [default of --sweep: NAME.sweep]",
        ),
    ] = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Run many thresholds and policies, and draw what each of them gives.")
    ] = False,
    thresholds: Annotated[
        str | None, typer.Option("--thresholds", metavar="A,B,…", help="Of --sweep. [default: some for each policy]")
    ] = None,
    list_: Annotated[
        bool,
        typer.Option(
            "--list",
            help="List the pipelines with all that --set takes, and exit.",
            is_eager=True,
            callback=lambda v: _list(v),
        ),
    ] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON object for each problem.")] = False,
) -> None:
    from contextlib import ExitStack

    from draftproof.cli.run_folder import RunFolder
    from draftproof.cli.run_job import Job, rejects_path
    from draftproof.cli.run_setup import listing_of, set_up
    from draftproof.importers.streams import check_file
    from draftproof.rejects import RejectsFile
    from draftproof.store.verdict_store import VerdictStore

    listing_of(pipeline)  # a wrong name is told before anything is read or loaded
    check_file(file)
    job = Job(file, limit, workers, retry_errors, "draftproof " + shlex.join(sys.argv[1:]), json_output)
    path = rejects_path(file, rejects)
    models = (draft, target)
    with ExitStack() as stack:
        if sweep:
            from draftproof.cli.sweep_run import run_sweep, sweep_settings

            if file == "-":
                raise UsageError("A sweep reads its problems once for each setting.", remedy="Give it a file.")
            if threshold is not None:
                raise UsageError("--sweep runs many thresholds.", remedy="Give them with --thresholds, as in 0,0.5,1.")
            settings = sweep_settings(
                pipeline, models=models, policy=policy, verifier=verifier, router=router, thresholds=thresholds,
                given=set_ or (), seed=seed, api_key_env=api_key_env,
            )  # fmt: skip
            folder = stack.enter_context(RunFolder(out or _sweep_folder(file)))
            sink = stack.enter_context(RejectsFile(path))
            opened = stack.enter_context(VerdictStore.open(store_url(store)))
            run_sweep(settings, opened, job, sink, folder, store_arguments(store))
        else:
            for name, value, instead in (
                ("--thresholds", thresholds, "--threshold"),
                ("--router", router, "--verifier"),
            ):
                if value is not None:
                    raise UsageError(f"{name} belongs to --sweep.", remedy=f"Without one, give {instead}.")
            setup = set_up(
                pipeline, models=models, policy=policy, verifier=verifier, threshold=threshold, given=set_ or (),
                seed=seed, api_key_env=api_key_env,
            )  # fmt: skip
            kept = None if out is None else stack.enter_context(RunFolder(out))
            sink = stack.enter_context(RejectsFile(path))
            opened = stack.enter_context(VerdictStore.open(store_url(store)))
            _run_once(setup, opened, job, sink, kept, store_arguments(store))


def _run_once(
    setup: Setup, store: VerdictStore, job: Job, sink: RejectsFile, folder: RunFolder | None, store_argument: str
) -> None:
    from draftproof.cli.run_folder import RESULTS, ROWS
    from draftproof.cli.run_job import solve
    from draftproof.cli.run_summary import rejects_lines, summary_lines
    from draftproof.cli.screen import discard, say, visible

    collects = folder is not None and setup.options.get("policy") == "collect"

    def keep(solved: Solved, output: Mapping[str, Any] | None) -> None:
        if folder is None:
            return
        folder.add(RESULTS, solved.as_json())
        if collects and not solved.failed:
            for row in _rows(store, solved, output):
                folder.add(ROWS, row)

    try:
        run = solve(setup, store, job, sink, on_solved=keep, keep_outputs=collects)
        sys.stdout.flush()
    except BrokenPipeError:  # as in `| head`: nobody reads on, and the same command goes on from here
        discard(sys.stdout)
        raise typer.Exit(ExitStatus.SETTLED) from None
    failed = run.tally.failed or run.tally.outcomes.get("error")
    for line in summary_lines(run.tally, sink.count, run_seconds=run.seconds, alone=setup.listing.one_model):
        say(line)
    for line in rejects_lines({str(sink.path): sink.count} if sink.count else {}):
        say(visible(line))
    if not job.as_json:
        say(f"Look further: draftproof runs show {run.id[:8]}{store_argument}")
        first = next((each for each in store.run_traces(run.id)), None)
        if first is not None:
            say(f"              draftproof verdicts show {first.digest[7:19]}{store_argument}")
    raise typer.Exit(ExitStatus.ITEMS_FAILED if sink.count or failed else ExitStatus.SETTLED)


def _rows(store: VerdictStore, solved: Solved, output: Mapping[str, Any] | None) -> Iterable[Mapping[str, Any]]:
    """What a router learns from a problem, told again from its verdicts where an earlier run solved it."""
    from draftproof.batch.courses import course_of
    from draftproof.pipelines.step_features import collected_rows

    told = output if output is not None else course_of(store, solved.opening)
    return collected_rows(cast(Any, told))


def _sweep_folder(file: str) -> Path:
    return Path(f"{Path(file).name.partition('.')[0]}.sweep")


def _list(wanted: bool) -> None:
    if not wanted:
        return
    from draftproof.cli.run_setup import LISTINGS, setting_names

    for each in LISTINGS.values():
        print(f"{each.name:20} {each.summary}")
        if each.policies:
            print(f"{'':20} --policy {', '.join(each.policies)}")
        for part, names in setting_names(each).items():
            if names:
                print(f"{'':20} --set ({part}) {', '.join(names)}")
    raise typer.Exit
