"""Signals are remembered while work is half done, raised between two pieces of it and while input is awaited."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from draftproof.batch.stopping import Stopping, Terminated
from draftproof.trace import Step, Trace

TRACE = Trace(problem="p", steps=(Step(text="1 + 1 = 2"),))


@pytest.mark.parametrize(("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
def test_a_signal_waits_for_the_next_check(number: signal.Signals, raised: type[BaseException]) -> None:
    stopping = Stopping()
    with stopping.heeded():
        stopping.check()
        os.kill(os.getpid(), number)
        half_done = "finished"  # the signal has arrived, and nothing was raised
        with pytest.raises(raised):
            stopping.check()
    assert half_done == "finished"


def test_a_second_signal_does_not_wait() -> None:
    stopping = Stopping()
    with stopping.heeded():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_signal_while_the_input_is_awaited_is_raised_there() -> None:
    closed = []

    def slow() -> Iterator[Trace]:
        try:
            yield TRACE
            os.kill(os.getpid(), signal.SIGTERM)
            yield TRACE
        finally:
            closed.append(True)

    stopping = Stopping()
    with stopping.heeded():
        traces = stopping.reading(slow())
        assert next(traces) is TRACE
        with pytest.raises(Terminated):
            next(traces)
    assert closed


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Stopping().heeded():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before
