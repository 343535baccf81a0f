"""Long lives: rows that come and go by the hundred leave nothing behind, not so much as an entry a round.

Python's own allocations are counted to the byte (tracemalloc); what the process holds besides, tensors above all, by
its resident memory, which is only good for megabytes.
"""

from __future__ import annotations

import gc
import resource
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from draftproof.drafting.decoder import Sink, SpeculativeDecoder
from draftproof.drafting.drafter import Commit, Drafter
from draftproof.drafting.drafters.history import History
from draftproof.drafting.drafters.hybrid import Hybrid
from draftproof.drafting.drafters.input_copy import InputCopy
from draftproof.drafting.drafters.prompt_lookup import PromptLookup
from draftproof.drafting.drafters.suffix import Suffix
from draftproof.drafting.generation import Generation
from draftproof.drafting.models.load import LoadedModel, load_model

ROUNDS = 10_000
FEW = 2_000
"""Enough to tell an entry a round from none."""
BYTES_PER_ROUND = 16.0
"""Most that may stay behind. One number and its place in a list take 32, an entry of a dictionary 60 and more; what
PyTorch keeps of its own, ever less the longer it runs, was about 6 after ten thousand rounds."""
BYTES_PER_ROUND_OF_FEW = 36.0
"""The same for so few rounds: PyTorch's own share was 18 to 21 there. An entry that holds a pair takes 100 and more."""
MEGABYTES = 8.0
"""Most that resident memory may grow in all: the allocator's own noise."""


@dataclass(frozen=True)
class Subject:
    drafter: Drafter
    learning: Suffix | None = None
    """The part whose history grows up to its bound, as it should: it is emptied before every mark."""


def alone(drafter: Drafter) -> Subject:
    return Subject(drafter, drafter if isinstance(drafter, Suffix) else None)


def joined() -> Subject:
    suffix = Suffix()
    return Subject(Hybrid([suffix, InputCopy()]), suffix)


SUBJECTS: dict[str, Callable[[], Subject]] = {
    "prompt-lookup": lambda: alone(PromptLookup()),
    "suffix": lambda: alone(Suffix()),
    "hybrid": joined,
}


@dataclass
class Marks:
    """Taken between generations, when no row is open."""

    rounds: list[int] = field(default_factory=list)
    """So far."""
    allocated: list[int] = field(default_factory=list)
    """Bytes of Python's objects."""
    resident: list[float] = field(default_factory=list)
    """Megabytes of the process."""

    def bytes_per_round(self) -> float:
        """From the lowest mark of the first half to that of the second: caches that fill and empty have both."""
        half = len(self.rounds) // 2
        grown = min(self.allocated[half:]) - min(self.allocated[:half])
        return grown / (self.rounds[half] - self.rounds[0])

    def megabytes(self) -> float:
        return max(self.resident[-5:]) - max(self.resident[:5])


def resident_megabytes() -> float:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * resource.getpagesize() / 2**20 if statm.exists() else 0.0


@contextmanager
def traced() -> Iterator[None]:
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def lived(chat: LoadedModel, subject: Subject, rounds: int, policy: str = "fixed", sink: Sink | None = None) -> Marks:
    """Marks of a decoder that lives for so many rounds, after half of them to warm up."""
    decoder = SpeculativeDecoder(chat, subject.drafter, policy=policy, sink=sink)
    marks = Marks()
    done = 0
    with traced():
        while done < rounds:
            prompts = [f"{done + number:05}: the river, the river" for number in range(8)]
            done += sum(made.totals.rounds for made in decoder.generate(prompts, max_new_tokens=40))
            assert decoder.session.rows == {}
            if done >= rounds / 2:
                if subject.learning is not None:
                    subject.learning.history = History(chat.model.info.vocab_size)
                gc.collect()
                marks.rounds.append(done)
                marks.allocated.append(tracemalloc.get_traced_memory()[0])
                marks.resident.append(resident_megabytes())
    return marks


@pytest.fixture(scope="module")
def lean_chat(tiny_chat_folder: Path) -> LoadedModel:
    return load_model(tiny_chat_folder, backend="lean")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("policy", ["fixed", "cost"])
@pytest.mark.parametrize("drafter", SUBJECTS)
def test_memory_does_not_grow_with_rounds(lean_chat: LoadedModel, drafter: str, policy: str) -> None:
    marks = lived(lean_chat, SUBJECTS[drafter](), ROUNDS, policy)
    assert marks.bytes_per_round() < BYTES_PER_ROUND, marks
    assert marks.megabytes() < MEGABYTES, marks


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_of_the_reference_backend_does_not_grow_with_rounds(tiny_chat: LoadedModel) -> None:
    marks = lived(tiny_chat, alone(PromptLookup()), ROUNDS)
    assert marks.bytes_per_round() < BYTES_PER_ROUND, marks
    assert marks.megabytes() < MEGABYTES, marks


def test_two_thousand_rounds_leave_nothing(lean_chat: LoadedModel) -> None:
    marks = lived(lean_chat, alone(PromptLookup()), FEW)
    assert marks.bytes_per_round() < BYTES_PER_ROUND_OF_FEW, marks


class Clinging(PromptLookup):
    """Keeps an entry of each round of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[int, tuple[int, int]] = {}

    def commit(self, events: Sequence[Commit]) -> None:
        super().commit(events)
        for _ in events:
            self.seen[1000 + len(self.seen)] = (2000 + len(self.seen), len(events))


def test_a_drafter_that_keeps_an_entry_a_round_is_found(lean_chat: LoadedModel) -> None:
    """The negative control, by as few rounds."""
    marks = lived(lean_chat, alone(Clinging()), FEW)
    assert marks.bytes_per_round() > 1.5 * BYTES_PER_ROUND_OF_FEW, marks


def test_a_sink_that_keeps_an_entry_a_round_is_found(lean_chat: LoadedModel) -> None:
    kept: dict[int, tuple[int, int]] = {}

    def sink(generation: Generation) -> None:
        for record in generation.rounds:
            kept[1000 + len(kept)] = (2000 + len(kept), record.accepted)

    marks = lived(lean_chat, alone(PromptLookup()), FEW, sink=sink)
    assert marks.bytes_per_round() > 1.5 * BYTES_PER_ROUND_OF_FEW, marks
