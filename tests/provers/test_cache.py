"""The proof cache: it remembers, and it never invents."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from draftproof.provers.cache import Key, ProofCache
from draftproof.provers.embedded import EmbeddedEnvironment
from draftproof.provers.environment import Status

KEY = Key("Holds nothing (num 1) eq (num 1)", "sha256:0", "Lean 4")
OTHER = Key("Holds nothing (num 1) eq (num 2)", "sha256:0", "Lean 4")


@pytest.fixture
def open_cache(tmp_path):
    caches = []

    def make():
        caches.append(ProofCache(tmp_path / "cache"))
        return caches[-1]

    yield make
    for cache in caches:
        cache.close()


def test_what_was_settled_is_remembered_across_openings(open_cache):
    open_cache().put({KEY: "proved", OTHER: "refuted"})
    assert open_cache().get([KEY, OTHER]) == {KEY: "proved", OTHER: "refuted"}


@pytest.mark.parametrize("part", ["statement", "prelude_digest", "toolchain"])
def test_an_answer_is_for_its_own_statement_library_and_kernel(open_cache, part):
    open_cache().put({KEY: "proved"})
    assert open_cache().get([replace(KEY, **{part: "another"})]) == {}


def test_parts_of_a_key_do_not_run_into_each_other():
    assert Key("a b", "c", "d").digest != Key("a", "b c", "d").digest


def test_what_settles_nothing_is_not_kept(open_cache):
    open_cache().put({KEY: "timeout", OTHER: "contradicted"})
    assert open_cache().get([KEY, OTHER]) == {}


def test_without_a_folder_answers_live_in_memory():
    cache = ProofCache(None)
    cache.put({KEY: "proved"})
    assert cache.get([KEY, OTHER]) == {KEY: "proved"}
    cache.close()


def test_many_keys_are_asked_at_once(open_cache):
    keys = [replace(KEY, statement=str(number)) for number in range(1200)]
    open_cache().put(dict.fromkeys(keys, "proved"))
    assert len(open_cache().get(keys)) == 1200


def test_the_files_are_private(open_cache, tmp_path):
    open_cache().put({KEY: "proved"})
    for name in ("proofs.sqlite", "proofs.key"):
        assert stat.S_IMODE((tmp_path / "cache" / name).stat().st_mode) == 0o600


def rows(tmp_path, statement, *parameters):
    with sqlite3.connect(tmp_path / "cache" / "proofs.sqlite") as file:
        file.execute(statement, parameters)
    file.close()


def test_a_forged_row_is_not_believed(open_cache, tmp_path):
    open_cache().put({KEY: "proved"})
    rows(tmp_path, "INSERT INTO settled SELECT ?, theorem, seal FROM settled", OTHER.digest)
    assert open_cache().get([OTHER]) == {}


@pytest.mark.parametrize("theorem", ["refuted", "accepted", ""])
def test_a_changed_answer_is_not_believed(open_cache, tmp_path, theorem):
    open_cache().put({KEY: "proved"})
    rows(tmp_path, "UPDATE settled SET theorem = ?", theorem)
    assert open_cache().get([KEY]) == {}


@pytest.mark.parametrize("seal", [b"", b"\0" * 32, "text"])
def test_a_changed_seal_is_not_believed(open_cache, tmp_path, seal):
    open_cache().put({KEY: "proved"})
    rows(tmp_path, "UPDATE settled SET seal = ?", seal)
    assert open_cache().get([KEY]) == {}


def test_another_users_key_unseals_nothing(open_cache, tmp_path):
    open_cache().put({KEY: "proved"})
    (tmp_path / "cache" / "proofs.key").write_bytes(b"k" * 32)
    assert open_cache().get([KEY]) == {}


@pytest.mark.parametrize(
    "content", [b"not a database at all, but long enough to look" * 40, b"SQLite format 3\0" + b"\xff" * 4096]
)
def test_a_corrupt_file_is_thrown_away(open_cache, tmp_path, content):
    open_cache().put({KEY: "proved"})
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / "cache" / f"proofs.sqlite{suffix}").unlink(missing_ok=True)
    (tmp_path / "cache" / "proofs.sqlite").write_bytes(content)
    assert open_cache().get([KEY]) == {}
    open_cache().put({KEY: "proved"})
    assert open_cache().get([KEY]) == {KEY: "proved"}


def test_a_table_of_another_shape_is_done_without(open_cache, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    rows(tmp_path, "CREATE TABLE settled (something TEXT)")
    cache = open_cache()
    cache.put({KEY: "proved"})
    assert cache.get([KEY]) == {KEY: "proved"}


def test_a_broken_secret_is_replaced(open_cache, tmp_path):
    (tmp_path / "cache").mkdir(mode=0o700)
    (tmp_path / "cache" / "proofs.key").write_bytes(b"short")
    open_cache().put({KEY: "proved"})
    assert open_cache().get([KEY]) == {KEY: "proved"}


def test_a_folder_that_others_may_write_to_is_not_used(open_cache, tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    open_cache().put({KEY: "proved"})
    assert open_cache().get([KEY]) == {}
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_cannot_be_made_costs_only_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    cache = ProofCache(tmp_path / "file" / "cache")
    cache.put({KEY: "proved"})
    assert cache.get([KEY]) == {KEY: "proved"}


def test_a_file_that_breaks_while_open_is_a_cache_without_answers(open_cache, tmp_path):
    open_cache().put({KEY: "proved"})
    cache = open_cache()
    rows(tmp_path, "DROP TABLE settled")
    assert cache.get([KEY]) == {}
    cache.put({OTHER: "proved"})
    assert cache.get([OTHER]) == {OTHER: "proved"}


def test_several_threads_and_processes_write_at_once(open_cache, tmp_path):
    script = (
        "import sys; from pathlib import Path; from draftproof.provers.cache import Key, ProofCache\n"
        "cache = ProofCache(Path(sys.argv[1]))\n"
        "for n in range(60): cache.put({Key(f'{sys.argv[2]} {n}', 'p', 't'): 'proved'})\n"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "cache"), str(child)], cwd=tmp_path)
        for child in range(2)
    ]
    cache = open_cache()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: cache.put({replace(KEY, statement=str(n)): "proved"}), range(60)))
    assert [child.wait() for child in children] == [0, 0]
    fresh = open_cache()
    assert len(fresh.get([Key(f"{child} {n}", "p", "t") for child in range(2) for n in range(60)])) == 120


@pytest.mark.lean
def test_a_remembered_claim_needs_no_kernel_and_says_so(cache_root, prelude, tmp_path, lean_claim, monkeypatch):
    root = tmp_path / "root"
    root.mkdir(mode=0o700)
    (root / "lean").symlink_to(cache_root / "lean")
    claims = [lean_claim("6 * 7 = 42"), lean_claim("6 * 7 = 43"), lean_claim("1 / 0 = 1"), lean_claim("sqrt(2) = 1")]
    with EmbeddedEnvironment(workers=1, cache_root=root) as environment:
        first = environment.check(claims)
    assert [result.cached for result in first] == [False] * 4
    with EmbeddedEnvironment(workers=1, cache_root=root) as environment:
        second = environment.check(claims)
        monkeypatch.setattr(EmbeddedEnvironment, "_answers", lambda *_: [])
        third = environment.check(claims[:3])
        environment.close()  # closing twice is harmless
    assert [result.cached for result in second] == [True, True, True, False]
    assert [(r.status, r.proof, r.reason) for r in first] == [(r.status, r.proof, r.reason) for r in second]
    assert all(result.cached for result in third)
    assert first[1].status is Status.REFUTED
