"""Questions of many threads, served together in rounds of one session.

There is no thread of its own. Who waits for an answer and finds nobody at it leads: begins the rows of all that have
asked, runs rounds over all rows, and when its own answers are there hands over to another that waits. A question that
comes while others are served joins in the next round.

What fails, fails alone. An error that comes up while several are served says nothing about whose it is: all of them
begin again one by one, and it comes to the one that causes it. Where a leader is interrupted, its rows and those of
the others are closed, and the others begin again under the next leader.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from draftproof.drafting.branched_reading import read_branches
from draftproof.drafting.greedy_run import can_run, run
from draftproof.drafting.language_models.floor import FLOOR, Speaker
from draftproof.drafting.language_models.jobs import Branching, Job, Probe, Recital, Writing
from draftproof.drafting.language_models.row_pool import RowPool
from draftproof.drafting.rows import RowOutcome
from draftproof.drafting.session import Session
from draftproof.drafting.turns import Turn
from draftproof.errors import OutOfMemoryError, UsageError

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class _Caller:
    """Somebody who asked, and waits."""

    jobs: Sequence[Job]
    speaker: Speaker

    @property
    def served(self) -> bool:
        return all(job.done for job in self.jobs)


class Rounds:
    """One session, for many threads."""

    def __init__(self, session: Session, turn: Turn, *, max_batch: int, max_cached_rows: int) -> None:
        self._session = session
        self._turn = turn
        self._max_batch = max_batch
        self._pool = RowPool(session, max_cached_rows)
        self.runs = can_run(session)
        """Whether the model writes some tokens by itself, up to a job's `halts`."""
        self._floor = FLOOR
        self._lock = self._floor.lock
        self._callers: list[_Caller] = []
        self._waiting: deque[Job] = deque()
        self._active: dict[int, Job] = {}
        self._leader: _Caller | None = None

    def serve(self, jobs: Sequence[Job]) -> None:
        """Returns when all are done; what failed is in them."""
        if not jobs:
            return
        with self._lock:
            caller = _Caller(jobs, self._floor.ask())
            self._callers.append(caller)
            self._waiting.extend(jobs)
        try:
            while not caller.served:
                try:
                    if self._may_lead(caller):
                        self._lead(caller)
                finally:
                    self._hand_over(caller)
            with self._lock:
                self._callers.remove(caller)
                self._wake()
                self._floor.leave(caller.speaker)
        except BaseException:
            for job in jobs:
                job.withdrawn = not job.done  # an interrupt: who leads next drops them
            with self._lock:
                if caller in self._callers:
                    self._callers.remove(caller)
                self._floor.drop(caller.speaker)
                self._wake()
            raise

    def forget(self) -> None:
        """Close all rows that nobody uses."""
        with self._turn:
            self._pool.clear()

    # Who leads

    def _may_lead(self, caller: _Caller) -> bool:
        """Waits until the caller is served or nobody leads."""
        with self._lock:
            while self._leader is not None and not caller.served:
                caller.speaker.changed.wait()
            if caller.served:
                return False
            self._leader = caller
            return True

    def _hand_over(self, caller: _Caller) -> None:
        with self._lock:
            if self._leader is caller:
                self._leader = None

    def _wake(self) -> None:
        """Those who are served, each when its turn comes, and one of the others where nobody leads."""
        leaderless = self._leader is None
        for caller in self._callers:
            if caller.served:
                self._floor.answer(caller.speaker)
            elif leaderless:
                caller.speaker.changed.notify()
                leaderless = False

    def _lead(self, caller: _Caller) -> None:
        try:
            while not caller.served:
                with self._lock:
                    self._floor.lead(caller.speaker)
                with self._turn:
                    finished = self._round()
                if finished:
                    with self._lock:
                        self._wake()
        except BaseException:
            with self._turn:
                self._again(list(self._active))
            raise

    # What is served

    def _round(self) -> bool:
        """Whether any job was finished."""
        for row in [row for row, job in self._active.items() if job.withdrawn]:
            self._close(row)
            del self._active[row]
        new = self._admitted()
        served = len(self._active)
        done = 0
        opened = {row: job.opening for row, job in new.items() if isinstance(job, Writing | Probe)}
        read = {row: job.reading for row, job in new.items() if isinstance(job, Recital)}
        if opened:
            outcomes = self._attempted(list(opened), lambda: self._session.begin(opened)) or []
            for outcome in outcomes:
                self._active[outcome.row].cached = outcome.cached
            done += self._note(outcomes)
        if read:
            for each in self._attempted(list(read), lambda: self._session.read(read)) or []:
                job = self._active[each.row]
                assert isinstance(job, Recital)
                job.cached = each.cached
                job.hidden = dict(each.hidden)
                done += self._finish(each.row, job)
        for row, job in new.items():
            if isinstance(job, Branching):
                done += self._branched(row, job)
        done += self._note(self._gone_on())
        return done > 0 or len(self._active) < served

    def _branched(self, row: int, job: Branching) -> int:
        outcome = self._attempted([row], lambda: read_branches(self._session, row, job.reading))
        if outcome is None:
            return 0
        job.take(outcome)
        return self._finish(row, job)

    def _gone_on(self) -> list[RowOutcome]:
        """A token or more for each row that is being written."""
        outcomes: list[RowOutcome] = []
        jobs = {row: job for row, job in self._active.items() if isinstance(job, Writing)}
        halts = {row: job.halts for row, job in jobs.items() if job.halts is not None}
        if halts:
            outcomes = self._attempted(list(halts), lambda: run(self._session, halts)) or []
        ran = {outcome.row for outcome in outcomes}
        left = [row for row in self._active if row not in ran]
        if left:
            outcomes += self._attempted(left, lambda: self._session.round(left)) or []
        return outcomes

    def _admitted(self) -> dict[int, Job]:
        """Questions that find room, by their rows."""
        new: dict[int, Job] = {}
        if not self._waiting:
            return new
        with self._lock:
            while self._waiting and len(self._active) < self._max_batch:
                if self._active and (self._waiting[0].alone or any(job.alone for job in self._active.values())):
                    break
                job = self._waiting.popleft()
                if not job.withdrawn:
                    row = self._pool.take(job.ids)
                    new[row] = self._active[row] = job
        return new

    def _note(self, outcomes: Sequence[RowOutcome]) -> int:
        """How many jobs the outcomes finish."""
        done = 0
        for outcome in outcomes:
            job = self._active[outcome.row]
            if isinstance(job, Probe):
                job.basis = outcome.basis
                done += self._finish(outcome.row, job)
            elif isinstance(job, Writing) and job.add(outcome):
                self._session.rewind(outcome.row, job.length)
                done += self._finish(outcome.row, job)
        return done

    def _finish(self, row: int, job: Job) -> int:
        self._pool.give(row)
        del self._active[row]
        job.finish()
        return 1

    # What goes wrong

    def _attempted(self, rows: list[int], call: Callable[[], _T]) -> _T | None:
        """What `call` gives for `rows`; None where it failed, and then they are not served any more."""
        try:
            return call()
        except Exception as error:
            short = isinstance(error, OutOfMemoryError)
            if short:
                self._pool.clear()
            job = self._active[rows[0]]
            if len(rows) == 1 and (job.alone or not short):
                self._close(rows[0])
                del self._active[rows[0]]
                job.finish(error)
            else:
                self._again(rows, alone=True)
            return None

    def _again(self, rows: list[int], *, alone: bool = False) -> None:
        """Close rows whose jobs will begin again from nothing."""
        for row in reversed(rows):
            self._close(row)
            job = self._active.pop(row)
            job.restart()
            job.alone = job.alone or alone
            with self._lock:
                self._waiting.appendleft(job)

    def _close(self, row: int) -> None:
        """An error or an interrupt may have left the row anywhere between open and closed."""
        with suppress(Exception):  # of a drafter that fails once more: what it failed with at first counts
            if row in self._session.rows:
                self._session.close([row])
        with suppress(UsageError):
            self._session.target.drop_row(row)
