"""`draftproof.verify`: the main job from Python."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from draftproof.batch.pool import Limits
from draftproof.batch.run import BatchResult, Progress, verify_batch
from draftproof.errors import MissingExtraError, UsageError
from draftproof.importers.reading import read_traces
from draftproof.registry import parse_verifier
from draftproof.settings import settings
from draftproof.store.queries import VerdictFilter
from draftproof.store.records import Conservation, Run
from draftproof.store.verdict_store import VerdictStore
from draftproof.trace import Trace
from draftproof.verdict import Verdict
from draftproof.verifier import Verifier

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class Verification:
    """A finished run. Verdicts are read from the store when they are asked for."""

    run: Run
    conservation: tuple[Conservation, ...]
    """One for each verifier: where its pairs went. Their sum is exact."""
    progress: Progress
    store_url: str

    def __repr__(self) -> str:
        counts = ", ".join(
            f"{c.verifier.partition('@')[0]}: {c.accepted:,} accepted, {c.rejected:,} rejected, "
            f"{c.abstained:,} abstained, {c.errored:,} errored"
            for c in self.conservation
        )
        return f"<Verification of {self.progress.traces:,} traces; {counts}; run {self.run.id[:8]}>"

    @property
    def verdicts(self) -> list[Verdict]:
        """Every verdict about the run's pairs, in the order of traces, steps and verifiers."""
        return list(self.iter_verdicts())

    def iter_verdicts(self) -> Iterator[Verdict]:
        """The verdicts as a stream, for runs that do not fit in memory."""
        with VerdictStore.open(self.store_url, create=False, read_only=True) as store:
            for row in store.iter_verdicts(VerdictFilter(run=self.run.id), order="subject"):
                yield row.verdict

    def to_pandas(self) -> pandas.DataFrame:
        """One row a verdict. Raises MissingExtraError where pandas is not installed."""
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError(
                "to_pandas needs the package 'pandas'.", remedy="Install it: pip install 'draftproof[tables]'."
            ) from error
        with VerdictStore.open(self.store_url, create=False, read_only=True) as store:
            rows = [
                {
                    "trace": row.trace_id,
                    "trace_digest": row.subject.trace_digest,
                    "position": row.subject.position,
                    "verifier": row.verifier,
                    "outcome": row.outcome.value,
                    "score": row.score,
                    "guarantee": row.guarantee.value,
                    "reason": row.reason,
                    "wall_seconds": row.wall_seconds,
                    "generator": row.generator,
                }
                for row in store.iter_verdicts(VerdictFilter(run=self.run.id), order="subject")
            ]
        return pandas.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    "trace", "trace_digest", "position", "verifier", "outcome", "score", "guarantee", "reason", "wall_seconds",
    "generator",
]  # fmt: skip


def verify(
    traces: Iterable[Trace] | str | Path,
    verifiers: Sequence[str | Verifier] = ("arithmetic", "lean"),
    store: str | None = None,
    *,
    format: str = "auto",
    workers: int | None = None,
    limits: Limits | None = None,
    retry_errors: bool = False,
) -> Verification:
    """Judge every step of `traces` by every verifier; every verdict is in the store when this returns.

    Args:
        traces: `Trace` objects, in any iterable, or the path of a file that `draftproof verify` reads;
            an unreadable line of a file raises InputError here.
        verifiers: Names, as `draftproof verifiers list` shows them, or objects of one's own. An object
            that no registered name re-creates is run in this process, where a hanging check cannot
            be stopped.
        store: URL of the verdict store; default $DRAFTPROOF_STORE, else `sqlite:///draftproof.db`.
        workers: Worker processes; default one a processor. 0 judges in this process.

    What the store already holds is not judged again: calling this twice costs little.
    """
    if isinstance(verifiers, str):
        raise UsageError(f"verifiers is a list of names or objects, not the text {verifiers!r}.")
    url = store or settings().store
    made = [parse_verifier(v) if isinstance(v, str) else v for v in verifiers]
    stream = read_traces(traces, format) if isinstance(traces, str | Path) else _only_traces(traces)
    with VerdictStore.open(url) as opened:
        result: BatchResult = verify_batch(
            stream,
            made,
            opened,
            command=_caller(),
            workers=settings().workers if workers is None else workers,
            limits=limits,
            retry_errors=retry_errors,
            inputs=[{"name": str(traces)}] if isinstance(traces, str | Path) else [],
        )
    return Verification(result.run, result.conservation, result.progress, url)


def _only_traces(given: Iterable[Trace]) -> Iterator[Trace]:
    for trace in given:
        if not isinstance(trace, Trace):
            raise UsageError(
                f"traces holds a {type(trace).__name__}, not a Trace.",
                remedy="Give dp.Trace(problem=..., steps=(dp.Step(text=...), ...)), or the path of a file.",
            )
        yield trace


def _caller() -> str:
    return f"draftproof.verify in {sys.argv[0] or 'an interactive session'}"
