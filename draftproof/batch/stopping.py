"""Ctrl-C and SIGTERM during a batch: acted on between two pieces of work, never inside a transaction.

An interrupt that is raised in the middle of a database call can leave the connection's lock behind,
and then the run cannot even note that it was stopped. So a signal is remembered, and `check` raises
it where nothing is half done. While the input is waited for, it is raised at once. So is a second
signal, wherever the run is: somebody is in a hurry.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

T = TypeVar("T")


class Terminated(BaseException):
    """SIGTERM asked the run to end."""


class Stopping:
    """Signals that arrived while a batch runs. Outside the main thread, signals are left as they are."""

    def __init__(self) -> None:
        self._arrived: int | None = None
        self._at_once = False

    def check(self) -> None:
        """Raises KeyboardInterrupt or Terminated when such a signal has arrived."""
        if self._arrived is not None:
            raise KeyboardInterrupt if self._arrived == signal.SIGINT else Terminated

    def reading(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, whose source may be waited for: meanwhile a signal is not."""
        iterator = iter(items)
        while True:
            self._at_once = True
            try:
                self.check()
                item = next(iterator, None)
            finally:
                self._at_once = False
            if item is None:
                return
            yield item

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Within, SIGINT and SIGTERM are remembered instead of raised."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._arrive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _arrive(self, number: int, frame: FrameType | None) -> None:
        again, self._arrived = self._arrived is not None, number
        if again or self._at_once:
            self.check()
