"""The batch loop: read traces, plan what nobody judged yet, have it judged, store it, account for it.

Re-running the same command is the resume: what is in the store is not judged again. Verdicts are
written in batches, each one transaction; a run that is killed loses only what it had not written
yet, and that is judged again the next time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from draftproof.batch.canaries import Canaries, require_known_wrong
from draftproof.batch.pool import Limits, WorkerPool
from draftproof.batch.stopping import Stopping
from draftproof.batch.task import Item, Task
from draftproof.errors import DraftproofError, UsageError
from draftproof.registry import create_verifier, listings
from draftproof.store.records import Conservation, Pair, Run, RunStatus
from draftproof.store.verdict_store import VerdictStore
from draftproof.subject import Granularity
from draftproof.trace import Trace
from draftproof.verdict import Outcome, Verdict
from draftproof.verifier import Verifier, identity, run_verifier

CHUNK_TRACES = 64
CHUNK_STEPS = 1_000
TASK_SECONDS = 1.0
"""Tasks are cut to take about this long: what a stopped run may lose of a slow verifier's work, and how long
the other workers have nothing to do at the end."""
FIRST_TASK, LEAST_TASK = 32, 8
"""Subjects of a task before a verifier's pace is known, and however slow it is: it judges in batches."""
WRITE_EVERY_SECONDS = 0.5
WRITE_EVERY_VERDICTS = 5_000


@dataclass(frozen=True)
class Progress:
    """How far a run is; handed to the observer after every step of the loop."""

    traces: int = 0
    planned: int = 0
    """Pairs of a step and a verifier that this run has to judge."""
    known: int = 0
    """Pairs that were in the store already."""
    judged: int = 0
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    restarts: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class BatchResult:
    """A run that has ended, and where its pairs went."""

    run: Run
    conservation: tuple[Conservation, ...]
    progress: Progress


def verify_batch(
    traces: Iterable[Trace],
    verifiers: Sequence[Verifier],
    store: VerdictStore,
    *,
    command: str,
    workers: int = 2,
    limits: Limits | None = None,
    retry_errors: bool = False,
    settings: Mapping[str, Any] | None = None,
    inputs: Sequence[Mapping[str, Any]] = (),
    canaries: Sequence[Trace] = (),
    observe: Callable[[Progress], None] = lambda progress: None,
) -> BatchResult:
    """Judge every step of `traces` by every verifier and store the verdicts as one run.

    `canaries` are traces that are known to be wrong. They are mixed into the run, belong to another one in the store,
    and what they came to is in the run's counts; see `draftproof.batch.canaries`.

    `workers` is the number of processes; 0, or a verifier that no name re-creates, judges in this
    process, where a check that hangs cannot be stopped. Ctrl-C raises KeyboardInterrupt and SIGTERM
    raises Terminated, both between two pieces of work; whatever is raised, the run is noted as
    interrupted or failed, and what was judged is stored.
    """
    if workers < 0:
        raise UsageError(f"a batch cannot have {workers} workers.", remedy="Give 0 or more.")
    if not verifiers:
        raise UsageError("a batch needs a verifier.", remedy="There are arithmetic and lean, to begin with.")
    if canaries:
        require_known_wrong(canaries, verifiers)
    stopping = Stopping()

    def between(progress: Progress) -> None:
        observe(progress)
        stopping.check()

    with stopping.heeded():
        run = store.begin_run(command, verifiers=verifiers, settings=settings, inputs=inputs)
        loop = _Loop(verifiers, store, run.id, retry_errors, between)
        try:
            if canaries:
                loop.canaries = Canaries(store, run, canaries, verifiers, retry_errors=retry_errors)
            if workers and all(_has_a_name(verifier) for verifier in verifiers):
                with WorkerPool(verifiers, workers=workers, limits=limits) as pool:
                    loop.through_pool(stopping.reading(traces), pool)
            else:
                loop.in_process(stopping.reading(traces))
            loop.write()
            counts = loop.counts(RunStatus.FINISHED)
        except BaseException as reason:
            _close(loop, store, run.id, reason)
            raise
        totals = store.finish_run(run.id, counts=counts)
        return BatchResult(store.run(run.id), tuple(totals), loop.progress)


def _close(loop: _Loop, store: VerdictStore, run_id: str, reason: BaseException) -> None:
    """Keep what was judged and note how the run ended, unless the store itself is what failed."""
    status = RunStatus.FAILED if isinstance(reason, Exception) else RunStatus.INTERRUPTED
    try:
        loop.write()
        store.finish_run(run_id, status, counts=loop.counts(status))
    except DraftproofError as error:
        reason.add_note(f"and its end could not be noted in the store: {error}")


def _has_a_name(verifier: Verifier) -> bool:
    """Whether a worker process would make this very verifier from its name and arguments."""
    if verifier.name not in listings():
        return False
    try:
        again = create_verifier(verifier.name, verifier.arguments)
    except DraftproofError:
        return False
    return type(again) is type(verifier) and identity(again) == identity(verifier)


class _Loop:
    """The state of one run."""

    def __init__(
        self,
        verifiers: Sequence[Verifier],
        store: VerdictStore,
        run_id: str,
        retry_errors: bool,
        observe: Callable[[Progress], None],
    ) -> None:
        self._verifiers = verifiers
        self._index = {identity(verifier): index for index, verifier in enumerate(verifiers)}
        self._store = store
        self._run_id = run_id
        self._retry_errors = retry_errors
        self._observe = observe
        self._started = time.perf_counter()
        self._unwritten: list[Verdict] = []
        self._written_at = time.perf_counter()
        self._in_flight: set[Pair] = set()
        self._pace: dict[str, float] = {}
        """Seconds a subject, of each verifier that has judged some."""
        self.progress = Progress()
        self.canaries: Canaries | None = None

    def through_pool(self, traces: Iterable[Trace], pool: WorkerPool) -> None:
        for tasks in self._planned(traces):
            for task in tasks:
                while not pool.hungry:
                    self._collect(pool, wait=True)
                pool.submit(task)
            self._collect(pool, wait=False)
        while pool.outstanding:
            self._collect(pool, wait=True)

    def in_process(self, traces: Iterable[Trace]) -> None:
        for tasks in self._planned(traces):
            for task in tasks:
                verifier = self._verifiers[task.verifier]
                subjects = [subject for item in task.items for subject in item.subjects(verifier)]
                self._take(run_verifier(verifier, subjects, log=_Nowhere()))

    def counts(self, status: RunStatus) -> dict[str, Any]:
        """What the run comes to when it ends so."""
        counts: dict[str, Any] = {
            "traces": self.progress.traces,
            "judged": self.progress.judged,
            "known": self.progress.known,
            "worker_restarts": self.progress.restarts,
            "seconds": round(time.perf_counter() - self._started, 3),
        }
        if self.canaries is not None:
            counts["canaries"] = self.canaries.close(status)
        return counts

    def write(self) -> None:
        """Store what was judged. Verdicts stay here until the store has them."""
        if self._unwritten:
            self._store.add(self._unwritten, self._run_id, retry_errors=self._retry_errors)
            self._in_flight.difference_update(map(_pair, self._unwritten))
            self._unwritten.clear()
        if self.canaries is not None:
            self.canaries.write()
        self._written_at = time.perf_counter()

    def _planned(self, traces: Iterable[Trace]) -> Iterator[Iterator[Task]]:
        """Tasks, chunk by chunk. Canaries want to know which chunk is the last: then, one is read ahead."""
        if self.canaries is None:
            yield from (self._plan(chunk) for chunk in _chunks(traces))
            return
        ahead: list[Trace] = []
        for chunk in _chunks(traces):
            if ahead:
                yield self._plan(ahead)
            ahead = chunk
        yield self._plan(ahead, last=True)

    def _plan(self, chunk: list[Trace], *, last: bool = False) -> Iterator[Task]:
        """Tasks for the pairs of `chunk` that nobody judged and nobody is judging."""
        self._store.add_traces(self._run_id, chunk)
        by_digest = {trace.digest: trace for trace in chunk}
        pairs = self._store.missing(chunk, self._verifiers, retry_errors=self._retry_errors)
        fresh = [pair for pair in dict.fromkeys(pairs) if pair not in self._in_flight]
        if self.canaries is not None:
            fresh = self.canaries.left_to(fresh)
        self._in_flight.update(fresh)
        subjects = sum(_subjects(trace, verifier) for trace in by_digest.values() for verifier in self._verifiers)
        self._advance(traces=len(chunk), planned=len(fresh), known=max(0, subjects - len(fresh)))
        fresh.sort(key=lambda pair: self._index[pair.verifier])
        for name, group in groupby(fresh, key=lambda pair: pair.verifier):
            left = list(group)
            while left:
                size = self._task_size(name)
                part, left = left[:size], left[size:]
                positions: dict[str, list[int]] = {}
                for pair in part:
                    positions.setdefault(pair.subject.trace_digest, []).append(pair.subject.position)
                items = tuple(Item(by_digest[digest], tuple(places)) for digest, places in positions.items())
                if self.canaries is not None:
                    items = self.canaries.mixed(name, items, tasks_left=1 + -(-len(left) // size) if last else None)
                yield Task(self._index[name], items)
        if last and self.canaries is not None:
            for name, index in self._index.items():
                if items := self.canaries.alone(name):
                    yield Task(index, items)

    def _collect(self, pool: WorkerPool, *, wait: bool) -> None:
        for finished in pool.finished(wait=wait):
            self._take(finished.verdicts)
        if pool.restarts != self.progress.restarts:
            self.progress = replace(self.progress, restarts=pool.restarts)
        if wait:
            self._advance()

    def _task_size(self, verifier: str) -> int:
        pace = self._pace.get(verifier)
        if pace is None:
            return FIRST_TASK
        return max(LEAST_TASK, min(CHUNK_STEPS, int(TASK_SECONDS / pace)))

    def _take(self, judged: Sequence[Verdict]) -> None:
        verdicts = judged if self.canaries is None else self.canaries.take(judged)
        self._unwritten.extend(verdicts)
        timed = [verdict.cost.wall_seconds for verdict in judged if verdict.cost.wall_seconds]
        if timed:  # what a lost worker was given has no cost
            latest = sum(timed) / len(timed)
            name = judged[0].verifier
            self._pace[name] = (self._pace.get(name, latest) + latest) / 2
        outcomes = dict(self.progress.outcomes)
        for verdict in verdicts:
            outcomes[verdict.outcome] = outcomes.get(verdict.outcome, 0) + 1
        self.progress = replace(self.progress, outcomes=outcomes)
        full = len(self._unwritten) >= WRITE_EVERY_VERDICTS
        if full or time.perf_counter() - self._written_at > WRITE_EVERY_SECONDS:
            self.write()
        self._advance(judged=len(verdicts))

    def _advance(self, *, traces: int = 0, planned: int = 0, known: int = 0, judged: int = 0) -> None:
        now = self.progress
        self.progress = replace(
            now,
            traces=now.traces + traces,
            planned=now.planned + planned,
            known=now.known + known,
            judged=now.judged + judged,
            seconds=time.perf_counter() - self._started,
        )
        self._observe(self.progress)


class _Nowhere:
    """A log for verdicts that the loop itself is about to store, before anyone reads them."""

    def add(self, verdicts: Sequence[Verdict]) -> None:
        pass


def _subjects(trace: Trace, verifier: Verifier) -> int:
    return len(trace.steps) if verifier.granularity is Granularity.STEP else 1


def _pair(verdict: Verdict) -> Pair:
    return Pair(verdict.subject, verdict.verifier, verdict.sample)


def _chunks(traces: Iterable[Trace]) -> Iterator[list[Trace]]:
    chunk: list[Trace] = []
    steps = 0
    for trace in traces:
        chunk.append(trace)
        steps += len(trace.steps)
        if len(chunk) >= CHUNK_TRACES or steps >= CHUNK_STEPS:
            yield chunk
            chunk, steps = [], 0
    if chunk:
        yield chunk
