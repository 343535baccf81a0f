"""Who goes on next, of all threads that ask local models: one at a time.

Python runs one thread at a time, and threads that quarrel over its lock can spend more on the quarrel than on their
work: a round of a small model calls dozens of operators, and each lets go of the lock and wants it back. So threads
take turns here as coroutines would. A thread that is answered has the floor while it works out its next question, the
others are answered after it, and when all of them have asked again, the next round serves them together.

Who does not come back soon loses the floor, and is not waited for until it has come back soon once more.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from threading import Condition, Lock, Thread, current_thread
from time import perf_counter
from weakref import WeakKeyDictionary, WeakSet

GRACE_S = 0.005
"""A graph takes less from an answer to its next question; a file that is synchronised or another process takes more."""


@dataclass(eq=False)
class Speaker:
    """A thread with a question."""

    changed: Condition
    thread: Thread = field(default_factory=current_thread)
    is_answered: bool = False
    may_go: bool = False
    """It was given the floor with its answer; it may have lost it again before it was awake."""


class Floor:
    """Every method wants `lock` held; those that wait let go of it meanwhile."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._holder: Speaker | None = None
        self._until: float | None = None
        """When a holder that is away loses the floor; None where it runs a round."""
        self._answered: deque[Speaker] = deque()
        self._leaders: deque[Speaker] = deque()
        self._left: WeakKeyDictionary[Thread, float] = WeakKeyDictionary()
        self._slow: WeakSet[Thread] = WeakSet()

    def ask(self) -> Speaker:
        """A thread comes with a question."""
        speaker = Speaker(Condition(self.lock))
        left = self._left.get(speaker.thread)
        if left is not None and perf_counter() - left <= GRACE_S:
            self._slow.discard(speaker.thread)
        elif left is not None:
            self._slow.add(speaker.thread)
        if self._until is not None and self._holder is not None and self._holder.thread is speaker.thread:
            self._pass_on()
        return speaker

    def lead(self, speaker: Speaker) -> None:
        """Wait to run a round, after those who were answered and those who asked for it before."""
        if self._holder is speaker and not self._answered and not self._leaders:
            return
        self._leaders.append(speaker)
        if self._holder is speaker or self._holder is None:
            self._pass_on()
        self._wait(speaker)

    def answer(self, speaker: Speaker) -> None:
        """Its question is answered: it may `leave` when its turn comes."""
        if speaker.is_answered:
            return
        speaker.is_answered = True
        if speaker is self._holder:
            return
        if speaker.thread in self._slow:
            speaker.changed.notify()
            return
        self._answered.append(speaker)
        if self._holder is None:
            self._pass_on()

    def leave(self, speaker: Speaker) -> None:
        """The thread takes its answer and goes. It may have seen the answer before anybody said so."""
        self.answer(speaker)
        slow = speaker.thread in self._slow
        if slow and self._holder is speaker:
            self._pass_on()
        elif not slow:
            self._wait(speaker)
            if self._holder is speaker:
                self._away()
        self._left[speaker.thread] = perf_counter()

    def drop(self, speaker: Speaker) -> None:
        """Something went wrong with it: it waits for nothing any more."""
        for line in (self._answered, self._leaders):
            if speaker in line:
                line.remove(speaker)
        if self._holder is speaker:
            self._pass_on()

    def _pass_on(self) -> None:
        self._holder, self._until = None, None
        if self._answered:
            self._holder = self._answered.popleft()
            self._holder.may_go = True
            self._away()
        elif self._leaders:
            self._holder = self._leaders.popleft()
        if self._holder is not None:
            self._holder.changed.notify()

    def _away(self) -> None:
        """The holder goes, or will as soon as it is awake. One that waits must be awake to see that it stays away."""
        self._until = perf_counter() + GRACE_S
        if self._answered and not self._leaders:
            self._answered[0].changed.notify()

    def _wait(self, speaker: Speaker) -> None:
        while self._holder is not speaker and not speaker.may_go:
            now = perf_counter()
            if self._until is not None and now >= self._until:
                assert self._holder is not None
                self._slow.add(self._holder.thread)
                self._pass_on()
            else:
                speaker.changed.wait(GRACE_S if self._until is None else self._until - now)


FLOOR = Floor()
