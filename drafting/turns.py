"""Whose turn it is to run passes of a model: its rows share one cache, and so do all decoders over it."""

from __future__ import annotations

from itertools import count
from threading import Lock, RLock
from typing import Any
from weakref import WeakValueDictionary

from draftproof.drafting.model import CachedModel

_TURNS: WeakValueDictionary[int, Any] = WeakValueDictionary()
"""By the model's address, which is its own as long as a decoder holds it; the decoder holds the turn as well."""
_MAKING = Lock()

_ROWS = count(2**32)
"""Smaller ids are left to those who open rows of a session or a model themselves."""


class Turn:
    """Held while rows of a model are opened, decoded or closed: `with turn: …`."""

    def __init__(self) -> None:
        self._lock = RLock()  # a stream that is collected while a pass runs in its thread closes its row there and then

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()


def turn_of(model: CachedModel) -> Turn:
    """The same for all who ask for it while somebody holds it. To be kept together with the model."""
    with _MAKING:
        turn: Turn | None = _TURNS.get(id(model))
        if turn is None:
            turn = _TURNS[id(model)] = Turn()
        return turn


def new_row() -> int:
    """An id that no other decoder of this process has had."""
    return next(_ROWS)
