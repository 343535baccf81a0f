"""A worker process: makes the run's verifiers, then judges one task after another until its input ends.

Started by `draftproof.batch.pool` as `python -P -m draftproof.batch.worker`, with the verifiers'
names and arguments as the first frame. It keeps the two pipes to itself: whatever a verifier prints goes
to standard error, where it cannot pass for an answer, and its standard input is empty.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from draftproof.batch.task import FrameReader, frame, items_of
from draftproof.errors import DisagreementError, DraftproofError
from draftproof.registry import create_verifier
from draftproof.verdict import Verdict
from draftproof.verifier import Verifier, identity, run_verifier

_PR_SET_PDEATHSIG = 1


class _Collected:
    """A verdict log that hands its verdicts on: the parent process stores them before anyone reads them."""

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def add(self, verdicts: Sequence[Verdict]) -> None:
        self.verdicts.extend(verdicts)


def main() -> None:
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    messages = _messages(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    try:
        verifiers = [create_verifier(spec["name"], spec["arguments"]) for spec in next(messages)["verifiers"]]
        _answer(answers, {"ready": [identity(verifier) for verifier in verifiers]})
        for message in messages:
            _answer(answers, _judge(verifiers[message["verifier"]], message))
    except DisagreementError as error:
        _answer(answers, {"disagreement": error.message})
    except DraftproofError as error:
        _answer(answers, {"refused": error.message, "remedy": error.remedy, "code": error.code})
    except BrokenPipeError:
        pass  # the parent has gone: there is nobody to answer, and what was not stored will be judged again


def _judge(verifier: Verifier, message: dict[str, Any]) -> dict[str, Any]:
    collected = _Collected()
    subjects = [subject for item in items_of(message) for subject in item.subjects(verifier)]
    run_verifier(verifier, subjects, log=collected)
    return {"verdicts": [verdict.model_dump_json() for verdict in collected.verdicts]}


def _messages(descriptor: int) -> Iterator[dict[str, Any]]:
    reader = FrameReader()
    while piece := os.read(descriptor, 1 << 20):
        yield from reader.feed(piece)


def _answer(stream: BinaryIO, message: dict[str, Any]) -> None:
    stream.write(frame(message))
    stream.flush()


def _die_with_parent() -> None:
    """Ask the kernel to end this process when its parent ends, however that happens (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
