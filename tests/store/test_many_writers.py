"""Processes that write at once: none is turned away, none overwrites, none doubles."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest

import draftproof.store.connection
from draftproof.errors import StoreUnreachableError
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdict, step_pair

WRITER = """
import json, sys
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdicts
url, seed, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
store = VerdictStore.open(url)
traces = made_traces(625, seed=seed)
run = store.begin_run(f"writer {seed}", verifiers=[ARITHMETIC])
store.add_traces(run.id, traces)
verdicts = list(made_verdicts(store.missing(traces, [ARITHMETIC])))
print("ready", flush=True)
sys.stdin.readline()
inserted = duplicates = 0
for start in range(0, len(verdicts), batch):
    added = store.add(verdicts[start : start + batch], run.id)
    inserted, duplicates = inserted + added.inserted, duplicates + added.duplicates
store.finish_run(run.id)
print(json.dumps([inserted, duplicates]))
"""


def write_at_once(url: str, seeds: list[int], batch: int) -> list[list[int]]:
    """Inserted and duplicate counts of one process a seed, all started at one moment."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, url, str(seed), str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for seed in seeds
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    outputs = []
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert err == ""
        outputs.append(json.loads(out))
    return outputs


def test_four_processes_with_five_thousand_verdicts_each(url: str, store: VerdictStore) -> None:
    assert write_at_once(url, [1, 2, 3, 4], batch=50) == [[5000, 0]] * 4
    assert sum(store.count_verdicts().values()) == 20_000
    assert [run.status for run in store.runs()] == ["finished"] * 4


def test_four_processes_with_the_same_verdicts(url: str, store: VerdictStore) -> None:
    counts = write_at_once(url, [1, 1, 1, 1], batch=50)
    assert [sum(each) for each in counts] == [5000] * 4
    assert sum(inserted for inserted, _ in counts) == 5000
    assert sum(store.count_verdicts().values()) == 5000


def test_threads_share_a_store(store: VerdictStore) -> None:
    run = store.begin_run("test")
    failed: list[BaseException] = []

    def write(seed: int) -> None:
        try:
            for trace in made_traces(20, steps=1, seed=seed):
                store.add([made_verdict(step_pair(trace))], run.id)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert sum(store.count_verdicts().values()) == 120


def test_a_lock_that_is_never_given_up_is_reported(
    tmp_path: object, open_store: Callable[..., VerdictStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draftproof.store.connection, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(draftproof.store.connection, "WRITE_TRIES", 2)
    store = open_store(f"{tmp_path}/a.db")
    other = open_store(f"{tmp_path}/a.db")
    run = store.begin_run("test")

    def hold(connection: object) -> None:
        with pytest.raises(StoreUnreachableError, match="stayed locked by another process"):
            other.add([made_verdict(step_pair(made_traces(1)[0]))], run.id)

    store._database.write(hold)
    assert other.add([made_verdict(step_pair(made_traces(1)[0]))], run.id).inserted == 1
    assert ARITHMETIC.samples == 1
