"""Verifiers that misbehave, as another package would bring them: found through entry points, run in workers.

`poison` does what the text of a step says and accepts every other step. The rest go wrong as a whole.
Each judged step is noted in the file that $POISON_DIARY names, so that tests can see what was judged twice.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftproof.errors import DisagreementError
from draftproof.subject import Granularity, Subject
from draftproof.verdict import Guarantee, Outcome, Proposition, Verdict
from draftproof.verifier import identity


@dataclass(frozen=True)
class Accepting:
    """Accepts every subject."""

    name: str = "accepting"
    version: int = 1
    granularity: Granularity = Granularity.STEP
    proposition: Proposition = Proposition.CORRECT
    guarantee: Guarantee = Guarantee.OPINION
    arguments: Mapping[str, Any] = field(default_factory=dict)
    fingerprint: Mapping[str, Any] = field(default_factory=dict)

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        return [self.judge(subject) for subject in subjects]

    def judge(self, subject: Subject, **fields: Any) -> Verdict:
        _note(self.name, subject)
        given = {
            "subject": subject.key,
            "verifier": identity(self),
            "proposition": self.proposition,
            "outcome": Outcome.ACCEPT,
            "score": 1.0,
            "guarantee": self.guarantee,
            "reason": "did_not_look",
        }
        return Verdict(**{**given, **fields})


@dataclass(frozen=True)
class Poison(Accepting):
    """Does what the step says."""

    name: str = "poison"

    def check(self, subjects: Sequence[Subject]) -> list[Verdict]:
        verdicts = []
        for subject in subjects:
            deed = _DEEDS.get(subject.text.strip())
            if deed is not None:
                deed(subject)
            verdict = self.judge(subject)
            if subject.text.strip() == "answer for another":
                key = subject.key.model_copy(update={"position": subject.key.position + 1})
                verdict = verdict.model_copy(update={"subject": key})
            if subject.text.strip() == "reject":
                verdict = self.judge(subject, outcome=Outcome.REJECT, score=0.0, reason="was_told_to")
            if subject.text.strip() == "err":
                verdict = self.judge(subject, outcome=Outcome.ERROR, score=None, reason="was_told_to")
            verdicts.append(verdict)
        return verdicts


@dataclass(frozen=True)
class Slow(Accepting):
    """Takes its time over each step."""

    name: str = "slow"
    seconds: float = 0.02

    def __post_init__(self) -> None:
        object.__setattr__(self, "arguments", {"seconds": self.seconds})

    def judge(self, subject: Subject, **fields: Any) -> Verdict:
        time.sleep(0 if os.environ.get("POISON_HURRIES") else self.seconds)
        return super().judge(subject, **fields)


@dataclass(frozen=True)
class Whole(Accepting):
    """Judges whole traces."""

    name: str = "whole"
    granularity: Granularity = Granularity.TRACE


@dataclass(frozen=True)
class Changeling(Accepting):
    """Is another one in every process."""

    name: str = "changeling"
    fingerprint: Mapping[str, Any] = field(default_factory=lambda: {"process": os.getpid()})


def made_by_a_function(strictness: int = 1) -> Accepting:
    """An entry point may name a function."""
    return Poison(name="function-made", arguments={"strictness": strictness})


def calls_itself_otherwise() -> Accepting:
    return Accepting(name="somebody-else")


def makes_no_verifier() -> object:
    return object()


def cannot_be_made() -> Accepting:
    raise RuntimeError("the weights are damaged")


def dies_in_workers() -> Accepting:
    if _in_worker():
        sys.stderr.write("the licence server said no\n")
        sys.stderr.flush()
        os._exit(9)
    return Accepting(name="dies-in-workers")


def refuses_in_workers() -> Accepting:
    if _in_worker():
        raise RuntimeError("no device is left")
    return Accepting(name="refuses-in-workers")


def hangs_in_workers() -> Accepting:
    if _in_worker():
        time.sleep(3600)
    return Accepting(name="hangs-in-workers")


def _in_worker() -> bool:
    spec = sys.modules["__main__"].__spec__
    return spec is not None and spec.name == "draftproof.batch.worker"


def _note(name: str, subject: Subject) -> None:
    diary = os.environ.get("POISON_DIARY")
    if diary:
        with Path(diary).open("a") as file:
            file.write(f"{name} {subject.key.trace_digest} {subject.key.position} {os.getpid()}\n")


def _hang(subject: Subject) -> None:
    time.sleep(3600)


def _hang_and_ignore_signals(subject: Subject) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    while True:
        pass


def _exit(subject: Subject) -> None:
    os._exit(0)


def _leave(subject: Subject) -> None:
    sys.exit(0)


def _kill(subject: Subject) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _eat_memory(subject: Subject) -> None:
    eaten = []
    while True:
        eaten.append(bytearray(b"x" * (8 << 20)))
        time.sleep(0.002)


def _raise(subject: Subject) -> None:
    raise ValueError("\x1b[31mno digits\x1b[0m")


def _recurse(subject: Subject) -> None:
    _recurse(subject)


def _print_garbage(subject: Subject) -> None:
    print("\x00\x00\x00\x08garbage!" * 1000, flush=True)
    os.write(1, b"\xff\xff\xff\xff more garbage")
    sys.stdout.flush()


def _read_input(subject: Subject) -> None:
    sys.stdin.read()


def _disagree(subject: Subject) -> None:
    raise DisagreementError("proved by one and refuted by the other")


_DEEDS: dict[str, Callable[[Subject], None]] = {
    "hang": _hang,
    "hang on": _hang_and_ignore_signals,
    "exit": _exit,
    "leave": _leave,
    "kill": _kill,
    "eat": _eat_memory,
    "raise": _raise,
    "recurse": _recurse,
    "print": _print_garbage,
    "read": _read_input,
    "disagree": _disagree,
}
