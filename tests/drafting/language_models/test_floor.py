"""Threads that are answered take turns; one that stays away is not waited for."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Barrier, Event, Thread

import pytest

from draftproof.drafting.language_models import floor as floors
from draftproof.drafting.language_models.floor import Floor, Speaker

SOON_S = 30.0


@pytest.fixture
def floor() -> Floor:
    return Floor()


def started(work: Callable[[], None]) -> Thread:
    thread = Thread(target=work, daemon=True)
    thread.start()
    return thread


def speaker_of(floor: Floor) -> Speaker:
    with floor.lock:
        return floor.ask()


def answered(floor: Floor, count: int, then: Callable[[int], None]) -> list[Thread]:
    """Threads whose questions this one has answered in a round of its own, in the order of their numbers."""
    speakers: list[Speaker | None] = [None] * count
    asked = Barrier(count + 1)

    def ask(number: int) -> None:
        speakers[number] = speaker_of(floor)
        asked.wait(SOON_S)
        speaker = speakers[number]
        assert speaker is not None
        with floor.lock:
            while not speaker.is_answered:
                speaker.changed.wait(SOON_S)
            floor.leave(speaker)
        then(number)

    threads = [started(lambda number=number: ask(number)) for number in range(count)]  # type: ignore[misc]
    asked.wait(SOON_S)
    leader = speaker_of(floor)
    with floor.lock:
        floor.lead(leader)
        for speaker in speakers:
            assert speaker is not None
            floor.answer(speaker)
        floor.drop(leader)
    return threads


def joined(threads: list[Thread]) -> None:
    for thread in threads:
        thread.join(SOON_S)
        assert not thread.is_alive()


def test_one_goes_at_a_time_in_the_order_of_the_answers(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "GRACE_S", SOON_S)
    course: list[str] = []

    def then(number: int) -> None:
        course.append(f"{number} goes")
        time.sleep(0.01)
        course.append(f"{number} is back")
        with floor.lock:
            floor.drop(floor.ask())

    joined(answered(floor, 3, then))
    assert course == [f"{number} {does}" for number in range(3) for does in ("goes", "is back")]


def test_who_stays_away_is_not_waited_for(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where nobody leads: among those who were answered, one sees to it."""
    monkeypatch.setattr(floors, "GRACE_S", 0.01)
    stay = Event()
    gone: list[int] = []

    def then(number: int) -> None:
        gone.append(number)
        assert stay.wait(SOON_S)

    threads = answered(floor, 3, then)
    deadline = time.monotonic() + SOON_S
    while len(gone) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    stay.set()
    joined(threads)
    assert gone == [0, 1, 2]


def test_who_was_slow_gets_his_answer_without_a_turn_until_he_is_quick_again(
    floor: Floor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(floors, "GRACE_S", 0.01)
    first = speaker_of(floor)
    with floor.lock:
        floor.lead(first)
        floor.leave(first)
    time.sleep(0.05)
    second = speaker_of(floor)
    with floor.lock:
        floor.lead(second)
        floor.leave(second)
        assert floor._holder is None, "he is not waited for"
    third = speaker_of(floor)
    with floor.lock:
        floor.lead(third)
        floor.leave(third)
        assert floor._holder is third


def test_a_leader_lets_those_who_were_answered_go_first(floor: Floor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(floors, "GRACE_S", SOON_S)
    course: list[str] = []

    def then(number: int) -> None:
        course.append("answered")
        with floor.lock:
            floor.drop(floor.ask())

    threads = answered(floor, 1, then)
    leader = speaker_of(floor)
    with floor.lock:
        floor.lead(leader)
        course.append("round")
        floor.drop(leader)
    joined(threads)
    assert course == ["answered", "round"]


def test_a_speaker_that_is_dropped_blocks_nobody(floor: Floor) -> None:
    first, second = speaker_of(floor), speaker_of(floor)
    with floor.lock:
        floor.lead(first)
        floor.answer(second)
        floor.drop(second)
        floor.drop(first)
        assert floor._holder is None
        third = floor.ask()
        floor.lead(third)
        assert floor._holder is third


def test_who_sees_his_answer_before_anybody_says_so_has_his_turn_as_well(floor: Floor) -> None:
    leader, early = speaker_of(floor), speaker_of(floor)

    def leaves() -> None:
        with floor.lock:
            floor.leave(early)

    with floor.lock:
        floor.lead(leader)
    thread = started(leaves)
    time.sleep(0.02)
    with floor.lock:
        floor.drop(leader)
    joined([thread])
    with floor.lock:
        assert floor._holder is early


def test_who_loses_the_floor_before_he_is_awake_goes_all_the_same(floor: Floor) -> None:
    leader, late, other = (speaker_of(floor) for _ in range(3))
    other.thread = Thread()
    with floor.lock:
        floor.lead(leader)
        floor.answer(late)
        floor.answer(other)
        floor.drop(leader)
        assert floor._holder is late
        floor._until = 0.0
        floor._wait(other)  # sees that the time of the one before is over
        assert floor._holder is other
        floor._slow.clear()
        floor.leave(late)
        assert floor._holder is other
