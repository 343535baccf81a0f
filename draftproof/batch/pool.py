"""Worker processes that can be killed, and a pool that finds the subject they could not survive.

A task has a deadline and a worker has a memory limit. When a worker hangs, crashes or grows past
its limit, it is killed, a fresh one takes its place, and the task is cut into smaller ones until the
subject that caused it stands alone: that one gets an error verdict, its neighbours are judged as usual.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from draftproof.batch.task import FrameReader, Task, frame
from draftproof.errors import (
    ContractError,
    DisagreementError,
    DraftproofError,
    MissingExtraError,
    ProofEnvironmentError,
    UsageError,
)
from draftproof.verdict import ErrorEvidence, Verdict
from draftproof.verifier import Verifier, error_verdict, identity

_TICK_SECONDS = 0.2
_ANSWER_SECONDS = 5.0
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Limits:
    """What a worker may use."""

    subject_seconds: float = 60.0
    """Wall clock for a task of one subject; each further subject adds a tenth of it, up to ten times in all."""
    worker_bytes: int = 4 * 2**30
    """Resident memory of one worker process."""
    start_seconds: float = 120.0
    """Until a worker has made its verifiers; the first one may have to compile the Lean prelude."""

    def task_seconds(self, size: int) -> float:
        return self.subject_seconds * min(10.0, 1.0 + 0.1 * (size - 1))


@dataclass(frozen=True)
class Finished:
    """A task's verdicts, or the error verdict of the one subject that no worker survived."""

    task: Task
    verdicts: list[Verdict]


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    deadline: float
    ready: bool = False
    task: Task | None = None
    frames: FrameReader = field(default_factory=FrameReader)

    def read(self) -> bytes:
        assert self.process.stdout is not None
        return os.read(self.process.stdout.fileno(), 1 << 20)

    def send(self, message: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(frame(message))
        self.process.stdin.flush()

    def resident_bytes(self) -> int:
        try:
            return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * _PAGE
        except (OSError, IndexError, ValueError):
            return 0  # no /proc on this system, or the process is gone: its end is noticed elsewhere

    def forget_words(self) -> None:
        """Empty the file that its standard error goes to: last words are about the last task."""
        self.errors.seek(0)  # the position is shared with the worker, which writes on from there
        self.errors.truncate()

    def last_words(self) -> str:
        self.errors.seek(0, os.SEEK_END)
        self.errors.seek(max(0, self.errors.tell() - 2000))
        return self.errors.read().decode(errors="replace").strip()


class WorkerPool:
    """Runs tasks on `workers` processes. Use as a context manager; leaving it kills them all."""

    def __init__(self, verifiers: Sequence[Verifier], *, workers: int, limits: Limits | None = None) -> None:
        self._verifiers = verifiers
        self._limits = limits or Limits()
        self._waiting: deque[Task] = deque()
        self._selector = selectors.DefaultSelector()
        self._workers: list[_Worker] = []
        self._failed_starts = 0
        self.restarts = 0
        """Workers that were lost or killed while they had a task."""
        for _ in range(workers):
            self._start()

    @property
    def outstanding(self) -> int:
        """Tasks submitted and not finished."""
        return len(self._waiting) + sum(worker.task is not None for worker in self._workers)

    @property
    def hungry(self) -> bool:
        """Whether more tasks would keep the workers busy."""
        return len(self._waiting) < len(self._workers)

    def submit(self, task: Task) -> None:
        self._waiting.append(task)
        self._feed()

    def finished(self, *, wait: bool) -> Iterator[Finished]:
        """Tasks that have ended. With `wait`, returns after the first event or a tick; else at once."""
        for key, _ in self._selector.select(_TICK_SECONDS if wait else 0):
            worker: _Worker = key.data
            piece = worker.read()
            if piece:
                # an answer on its way is no hang, however long the caller was busy elsewhere
                worker.deadline = max(worker.deadline, time.monotonic() + _ANSWER_SECONDS)
                for message in worker.frames.feed(piece):
                    yield from self._take(worker, message)
            else:
                yield from self._lost(worker, "worker_lost")
        yield from self._watch()
        self._feed()

    def close(self) -> None:
        for worker in list(self._workers):
            self._remove(worker)
        self._selector.close()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> None:
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "draftproof.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,  # an interrupt at the terminal is the parent's to handle
        )
        worker = _Worker(process, errors, time.monotonic() + self._limits.start_seconds)
        assert process.stdout is not None
        self._selector.register(process.stdout, selectors.EVENT_READ, worker)
        self._workers.append(worker)
        specs = [{"name": verifier.name, "arguments": dict(verifier.arguments)} for verifier in self._verifiers]
        with suppress(BrokenPipeError):  # it ended at once; reading from it will say so
            worker.send({"verifiers": specs})

    def _feed(self) -> None:
        for worker in self._workers:
            if not self._waiting:
                return
            if worker.ready and worker.task is None:
                task = self._waiting.popleft()
                worker.task = task
                worker.deadline = time.monotonic() + self._limits.task_seconds(task.size)
                worker.forget_words()
                with suppress(BrokenPipeError):  # reading from it will report the loss, with the task noted as its own
                    worker.send(task.message())

    def _take(self, worker: _Worker, message: Mapping[str, Any]) -> Iterator[Finished]:
        if "ready" in message:
            expected = [identity(verifier) for verifier in self._verifiers]
            if message["ready"] != expected:
                raise ContractError(f"a worker made {message['ready']} from the names of {expected}")
            worker.ready, self._failed_starts = True, 0
        elif "verdicts" in message:
            assert worker.task is not None
            verdicts = [Verdict.model_validate_json(text) for text in message["verdicts"]]
            if not self._answers(worker.task, verdicts):
                yield from self._lost(worker, "wrong_answer")
                return
            task, worker.task = worker.task, None
            yield Finished(task, verdicts)
        elif "disagreement" in message:
            raise DisagreementError(message["disagreement"])
        else:
            raise _refusal(message)

    def _answers(self, task: Task, verdicts: Sequence[Verdict]) -> bool:
        """Whether these are verdicts of the task's verifier about each of its subjects, and no others."""
        verifier = self._verifiers[task.verifier]
        asked = [(item.trace.digest, position) for item in task.items for position in sorted(item.positions)]
        given = [(verdict.subject.trace_digest, verdict.subject.position) for verdict in verdicts]
        signed = identity(verifier)
        return given == asked and all(
            verdict.verifier == signed and verdict.subject.granularity is verifier.granularity for verdict in verdicts
        )

    def _watch(self) -> Iterator[Finished]:
        """Kill workers that are past their deadline or their memory."""
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.ready and worker.task is None:
                continue
            if now > worker.deadline:
                yield from self._lost(worker, "timeout")
            elif worker.resident_bytes() > self._limits.worker_bytes:
                yield from self._lost(worker, "out_of_memory")

    def _lost(self, worker: _Worker, reason: str) -> Iterator[Finished]:
        task, words = worker.task, worker.last_words()
        self._remove(worker)
        if task is None:
            self._failed_starts += 1
            if self._failed_starts > 2:
                raise DraftproofError(
                    f"a worker process cannot start ({reason}): {words or 'it left no message'}",
                    remedy="Run draftproof doctor.",
                )
        else:
            self.restarts += 1
        self._start()
        if task is None:
            return
        if task.size > 1:
            self._waiting.extendleft(reversed(task.pieces()))
            return
        verifier = self._verifiers[task.verifier]
        (subject,) = (subject for item in task.items for subject in item.subjects(verifier))
        message = words or f"the worker process ended ({reason})"
        evidence = ErrorEvidence(type=reason, message=message, attempts=task.attempt)
        yield Finished(task, [error_verdict(verifier, subject, reason=reason, error=evidence)])

    def _remove(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        assert worker.process.stdin is not None
        self._selector.unregister(worker.process.stdout)
        self._workers.remove(worker)
        with suppress(ProcessLookupError):  # gone already
            os.killpg(worker.process.pid, signal.SIGKILL)
        worker.process.stdout.close()
        with suppress(BrokenPipeError):  # what was buffered for a dead process is not needed
            worker.process.stdin.close()
        worker.process.wait()
        worker.errors.close()


def _refusal(message: Mapping[str, Any]) -> DraftproofError:
    """The error that a worker could not make its verifiers for, with the class and so the exit status it had there."""
    kinds = (ContractError, MissingExtraError, ProofEnvironmentError)
    kind = next((kind for kind in kinds if kind.code == message["code"]), UsageError)
    return kind(message["refused"], remedy=message["remedy"])
