"""An online suffix automaton with occurrence counts, and with an undo for each appended token.

States stand for classes of substrings that occur at the same places; the suffix link of a state leads to the longest
suffix that occurs at more places (Blumer et al., 1985). Appending takes amortised constant time and at most two
states, so a text of n tokens costs memory linear in n, where a trie of its suffixes costs n times its depth.

A state's count is the number of places where its substrings end. Following a transition and dividing the counts gives
the same conditional frequencies as a suffix trie with counts (suffix decoding, Oliaro et al., arXiv 2411.04975),
for contexts of any length.
"""

from __future__ import annotations

ROOT = 0
MAX_CLIMB = 48
"""Suffix links that are followed to count an occurrence. Only in texts that loop for long is there more to follow;
then the shortest contexts, which are of least use, miss some."""


class SuffixAutomaton:
    __slots__ = ("_undo", "count", "last", "length", "link", "newest", "next", "size")

    def __init__(self) -> None:
        self.next: list[dict[int, int]] = [{}]
        """Transitions: token -> state."""
        self.link: list[int] = [-1]
        self.length: list[int] = [0]
        """Tokens of the state's longest substring."""
        self.count: list[int] = [0]
        """Places where the state's substrings end."""
        self.newest: list[int] = [0]
        """The last of those places: tokens before and at it."""
        self.last = ROOT
        """The state of the whole text."""
        self.size = 0
        self._undo: list[tuple[int, int, int, int, int, tuple[int, ...]]] = []

    def append(self, token: int) -> None:
        nexts, link, length = self.next, self.link, self.length
        self.size += 1
        before = self.last
        state = self._new({}, ROOT, length[before] + 1, 0)
        p = before
        while p != -1 and token not in nexts[p]:
            nexts[p][token] = state
            p = link[p]
        stop, q, turned = p, -1, -1
        if p != -1:
            q = nexts[p][token]
            if length[q] == length[p] + 1:
                link[state] = q
                q = -1
            else:
                clone = self._new(dict(nexts[q]), link[q], length[p] + 1, q)
                while p != -1 and nexts[p].get(token) == q:
                    nexts[p][token] = clone
                    p = link[p]
                link[q] = link[state] = clone
                turned = p
        self.last = state
        self._undo.append((token, before, stop, q, turned, self._count_up(state)))

    def _new(self, transitions: dict[int, int], link: int, length: int, like: int) -> int:
        self.next.append(transitions)
        self.link.append(link)
        self.length.append(length)
        self.count.append(self.count[like] if like else 0)
        self.newest.append(self.newest[like] if like else 0)
        return len(self.next) - 1

    def _count_up(self, state: int) -> tuple[int, ...]:
        """One more occurrence of every suffix of the text; returns what `newest` was, for undoing it."""
        link, count, newest, size = self.link, self.count, self.newest, self.size
        was: list[int] = []
        while state != ROOT and len(was) < MAX_CLIMB:
            count[state] += 1
            was.append(newest[state])
            newest[state] = size
            state = link[state]
        return tuple(was)

    def pop(self) -> int:
        """Take the newest token back, and return it."""
        token, before, stop, q, turned, was = self._undo.pop()
        nexts, link = self.next, self.link
        state = self.last
        for old in was:
            self.count[state] -= 1
            self.newest[state] = old
            state = link[state]
        clone = link[self.last]
        if q != -1:
            p = stop
            while p != turned:
                nexts[p][token] = q
                p = link[p]
            link[q] = link[clone]
        p = before
        while p != stop:
            del nexts[p][token]
            p = link[p]
        for _ in range(1 if q == -1 else 2):
            for column in (nexts, link, self.length, self.count, self.newest):
                column.pop()
        self.last = before
        self.size -= 1
        return token

    def forget_undo(self) -> None:
        """What has been appended stays for good; its undo information is given back."""
        self._undo.clear()
