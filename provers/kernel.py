"""Processes that drive the Lean kernel for us, and what becomes of a claim when one of them fails.

A process answers claim by claim, so the one it was working on when it died or ran out of time is known:
that claim alone pays. After a death it is tried once more by a fresh process (the death may have come
from outside), after a time-out it is not; the claims behind it go on with the fresh process as they were.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from draftproof.errors import ProofEnvironmentError
from draftproof.provers.environment import Limits
from draftproof.provers.kernel_child import THEOREMS
from draftproof.provers.toolchain import Prelude, kill_group

CHILD = Path(__file__).parent / "kernel_child.py"
_START_SECONDS = 60.0
_RETIRE_AFTER = 20_000
"""Claims after which a process is replaced, whatever it may have leaked."""


@dataclass(frozen=True, slots=True)
class Request:
    name: str
    """Unguessable, so that no reply can be mistaken for another's."""
    attempts: tuple[str, ...]
    """Theorems to try, in order."""
    hypotheses: str
    sides: str


@dataclass(frozen=True, slots=True)
class Answer:
    theorem: str | None
    """The theorem that settled the claim; None when none did."""
    reason: str = ""
    """Why none did."""
    seconds: float = 0.0


class KernelProcess:
    """One child, started when first needed and replaced when it fails. For one thread at a time."""

    def __init__(self, prelude: Prelude, limits: Limits) -> None:
        self._prelude = prelude
        self._limits = limits
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._buffer = b""
        self._served = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def settle(self, requests: Sequence[Request]) -> list[Answer]:
        """One answer a request, in order."""
        answers: list[Answer] = []
        retried = False
        while len(answers) < len(requests):
            pending = requests[len(answers) :]
            before = len(answers)
            failure = self._send(pending)
            if failure is None:
                failure = self._receive(pending, answers)
            if failure is None:
                break
            self.close()
            retried = retried and len(answers) == before
            if failure == "kernel_crashed" and not retried:
                retried = True
                continue
            answers.append(Answer(None, failure))
            retried = False
        return answers

    def close(self) -> None:
        """End the process; the next request starts another."""
        process, self._process, self._buffer = self._process, None, b""
        if process is None:
            return
        if self._owner == os.getpid():  # after a fork, the process is the parent's
            kill_group(process)
            process.wait()
        else:
            process.returncode = 0
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(BrokenPipeError):  # what a dead process was not sent in time
                    stream.close()

    def _send(self, requests: Sequence[Request]) -> str | None:
        """Hand over a chunk. The child reads all of it before it answers, so neither side can block the other."""
        process = self._started()
        lines = [f"chunk {len(requests)}\n"]
        lines += [f"{r.name}\t{','.join(r.attempts)}\t{r.hypotheses}\t{r.sides}\n" for r in requests]
        assert process.stdin is not None
        try:
            process.stdin.write("".join(lines).encode("ascii"))
            process.stdin.flush()
        except OSError:
            return "kernel_crashed"
        return None

    def _receive(self, requests: Sequence[Request], answers: list[Answer]) -> str | None:
        """Collect answers until all are there; else say how the first missing one failed."""
        for request in requests:
            started = time.perf_counter()
            try:
                line = self._line(self._limits.seconds)
            except TimeoutError:
                return "timeout"
            if line is None:
                return "kernel_crashed"
            name, _, rest = line.partition("\t")
            theorem, _, detail = rest.partition("\t")
            if name != request.name or theorem not in (*request.attempts, "-"):
                return "protocol_error"
            if (theorem, detail) == ("-", "out_of_memory"):
                return detail  # the process may never get under its limit again
            seconds = time.perf_counter() - started
            answers.append(Answer(None, detail, seconds) if theorem == "-" else Answer(theorem, "", seconds))
            self._served += 1
        return None

    def _started(self) -> subprocess.Popen[bytes]:
        if self._served >= _RETIRE_AFTER or self._owner != os.getpid():
            self.close()
        if self._process is not None:
            return self._process
        limits, folder = self._limits, self._prelude.lean.folder
        self._served, self._owner = 0, os.getpid()
        self._process = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-I", "-S", str(CHILD), str(folder), str(self._prelude.modules)),
                *(str(limits.heartbeats), str(limits.megabytes)),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent"},
            start_new_session=True,
        )
        try:
            greeting = self._line(_START_SECONDS)
        except TimeoutError:
            greeting = None
        if greeting != "ready":
            status = self._process.poll()
            self.close()
            raise ProofEnvironmentError(
                f"the Lean kernel process does not start (status {status}).",
                remedy="`draftproof doctor` shows which part is missing; removing the cache folder has it rebuilt.",
            )
        return self._process

    def _line(self, seconds: float) -> str | None:
        """The next line; None at the end of the stream. Raises TimeoutError."""
        assert self._process is not None
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        deadline = time.monotonic() + seconds
        while b"\n" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError
            block = os.read(descriptor, 65_536)
            if not block:
                return None
            self._buffer += block
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode("ascii", errors="replace")


def attempts(expected: bool | None, hypotheses: str) -> tuple[str, ...]:
    """Which theorems to try, likeliest first. All are tried: the expectation decides nothing but the order."""
    proved, refuted, undefined, contradicted = THEOREMS
    order = (refuted, undefined, proved) if expected is False else (proved, refuted, undefined)
    return order if hypotheses == "nothing" else (*order, contradicted)
