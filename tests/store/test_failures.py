"""A machine that fails is an error that says which store, why, and what to do; never with a password."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, event, exc, make_url

import draftproof.store.connection
from draftproof.errors import IntegrityError, MissingExtraError, StoreUnreachableError, UsageError
from draftproof.store.connection import parse_url
from draftproof.store.failures import describe, translate
from draftproof.store.records import Attempt
from draftproof.store.verdict_store import VerdictStore
from draftproof.store.workloads import ARITHMETIC, made_traces, made_verdict, step_pair
from draftproof.verdict import Verdict

TRACES = made_traces(200)
Opener = Callable[..., VerdictStore]


def verdicts(store: VerdictStore) -> list[Verdict]:
    return [made_verdict(pair) for pair in store.missing(TRACES, [ARITHMETIC])]


@pytest.mark.parametrize("url", ["", ":memory:", "sqlite://", "sqlite:///:memory:"])
def test_a_store_in_memory_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="lose every verdict"):
        VerdictStore.open(url)


@pytest.mark.parametrize("url", ["mysql://u:secret@h/d", "http://u:secret@h", "x://secret"])
def test_other_databases_are_refused(url: str) -> None:
    with pytest.raises(UsageError, match="no store of the kind") as caught:
        VerdictStore.open(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["postgresql://u:secret@h:port/d", "postgresql://u:sec@ret@h:99999x/d", "://secret"])
def test_a_url_that_cannot_be_read_is_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        VerdictStore.open(url)
    assert "sec" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_postgres_without_its_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(draftproof.store.connection.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'draftproof\[postgres\]'"):
        VerdictStore.open("postgres://h/d")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:secret@h/d", "postgresql://u:***@h/d"),
        ("postgres://u@h/d?password=secret&sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("sqlite:///a b.db", "sqlite:///a b.db"),
        ("plain/path.db", "sqlite:///plain/path.db"),
    ],
)
def test_a_store_is_shown_without_its_password(url: str, shown: str) -> None:
    assert describe(parse_url(url)) == shown


@pytest.mark.postgres
def test_nobody_listens() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreUnreachableError, match=r"postgresql://u:\*\*\*@127.0.0.1:1/d cannot be reached") as caught:
        VerdictStore.open("postgresql://u:secret@127.0.0.1:1/d")
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


@pytest.mark.postgres
def test_a_database_that_is_not_there(postgres_server: str) -> None:
    url = make_url(postgres_server).set(database="nowhere").render_as_string(hide_password=False)
    with pytest.raises(StoreUnreachableError, match="does not exist"):
        VerdictStore.open(url)


def test_a_store_says_where_it_is(tmp_path: Path, open_store: Opener) -> None:
    assert open_store(str(tmp_path / "a.db")).name == f"sqlite:///{tmp_path}/a.db"


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachableError, match=r"cannot be opened .* Check that its folder exists"):
        VerdictStore.open(f"sqlite:///{tmp_path}/nowhere/a.db")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for options in ({"create": False}, {"read_only": True}):
        with pytest.raises(StoreUnreachableError, match="does not exist"):
            VerdictStore.open(str(tmp_path / "a.db"), **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 200)
    with pytest.raises(StoreUnreachableError, match="is not a SQLite database"):
        VerdictStore.open(str(path))
    assert path.read_text() == "dear diary, " * 200


def test_a_damaged_file_is_an_integrity_error(tmp_path: Path, open_store: Opener) -> None:
    path = tmp_path / "a.db"
    store = open_store(str(path))
    store.add(verdicts(store), store.begin_run("test").id)
    store.close()
    bytes_ = bytearray(path.read_bytes())
    bytes_[4096 * 8 :] = b"\xff" * (len(bytes_) - 4096 * 8)
    path.write_bytes(bytes_)
    with pytest.raises(IntegrityError, match="is damaged"):
        list(VerdictStore.open(str(path)).iter_verdicts())


def test_a_name_with_marks_of_a_url_is_one_file(tmp_path: Path, open_store: Opener) -> None:
    path = tmp_path / "a?mode=memory#b%20c d.db"
    store = open_store(str(path))
    store.begin_run("test")
    assert path.exists()


def test_a_full_disk_stores_nothing_of_the_batch_and_can_be_resumed(tmp_path: Path, open_store: Opener) -> None:
    store = open_store(str(tmp_path / "a.db"))
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES)
    given = verdicts(store)
    store.add(given[:100], run.id)
    limit = "PRAGMA max_page_count=100"  # what SQLite reports as a full disk
    event.listen(store._database.engine, "begin", lambda connection: connection.exec_driver_sql(limit))
    with pytest.raises(StoreUnreachableError, match="the disk is full"):
        store.add(given, run.id)
    assert len(list(store.iter_verdicts())) == 100
    store.close()
    with VerdictStore.open(str(tmp_path / "a.db")) as resumed:
        added = resumed.add(given, run.id)
        assert (added.inserted, added.duplicates) == (1500, 100)
        resumed.finish_run(run.id)


def test_reading_needs_no_write(url: str, store: VerdictStore, open_store: Opener) -> None:
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add([made_verdict(step_pair(TRACES[0]))], run.id)
    reader = open_store(url, read_only=True)
    assert list(reader.iter_verdicts()) == list(store.iter_verdicts())
    assert reader.conservation(run.id) == store.conservation(run.id)
    with pytest.raises(StoreUnreachableError, match="was opened read-only"):
        reader.add([made_verdict(step_pair(TRACES[1]))], run.id)


def test_the_database_itself_holds_a_reader_to_reading(url: str, store: VerdictStore, open_store: Opener) -> None:
    reader = open_store(url, read_only=True)
    reader._database.read_only = False
    with pytest.raises(StoreUnreachableError, match="read-only"):
        reader.begin_run("test")
    assert store.runs() == []


def test_a_reader_sees_what_a_closed_store_left(tmp_path: Path, open_store: Opener) -> None:
    """Then there is no write-ahead log beside the file, and a reader may not make one."""
    store = open_store(str(tmp_path / "a.db"))
    store.begin_run("test")
    store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["a.db"]
    assert len(open_store(str(tmp_path / "a.db"), read_only=True).runs()) == 1


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        folder.chmod(0o755)


@contextmanager
def unprivileged() -> Iterator[None]:
    """As a user whom permissions bind, which they do not bind root."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("existing", [True, False], ids=["file", "folder"])
def test_no_permission(public_folder: Path, open_store: Opener, existing: bool) -> None:
    path = public_folder / "a.db"
    if existing:
        open_store(str(path)).close()
        path.chmod(0o444)
    public_folder.chmod(0o555)
    with unprivileged(), pytest.raises(StoreUnreachableError, match=r"is read-only|cannot be opened") as caught:
        VerdictStore.open(str(path)).begin_run("test")
    assert str(path) in str(caught.value)


def test_a_reader_needs_no_permission_to_write(public_folder: Path, open_store: Opener) -> None:
    path = public_folder / "a.db"
    store = open_store(str(path))
    run = store.begin_run("test")
    store.close()
    path.chmod(0o444)
    public_folder.chmod(0o555)
    with unprivileged():
        assert open_store(str(path), read_only=True).runs() == [run]


@pytest.mark.postgres
def test_a_user_without_rights(postgres_url: str, open_store: Opener) -> None:
    owner = open_store(postgres_url)
    role = f"reader_{os.getpid()}"
    grants = [f"CREATE ROLE {role} LOGIN PASSWORD 'hunter2'", f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"]

    def grant(connection: Connection) -> None:
        for statement in grants:
            connection.exec_driver_sql(statement)

    owner._database.write(grant)
    url = make_url(postgres_url).set(username=role, password="hunter2").render_as_string(hide_password=False)
    try:
        reader = open_store(url)
        assert reader.runs() == []
        with pytest.raises(StoreUnreachableError, match=r"refuses this user \(permission denied") as caught:
            reader.begin_run("test")
        assert "hunter2" not in str(caught.value)
    finally:
        owner._database.write(lambda c: c.exec_driver_sql(f"DROP OWNED BY {role}"))
        owner._database.write(lambda c: c.exec_driver_sql(f"DROP ROLE {role}"))


def _kick_everyone(postgres_url: str) -> None:
    """Ends all connections to the database, as a server that goes down does."""
    admin = create_engine(make_url(postgres_url).set(drivername="postgresql+psycopg"))
    with admin.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    admin.dispose()


@pytest.mark.postgres
def test_a_connection_lost_between_batches_is_made_again(postgres_url: str, open_store: Opener) -> None:
    store = open_store(postgres_url)
    run = store.begin_run("test")
    _kick_everyone(postgres_url)
    assert store.add([made_verdict(step_pair(TRACES[0]))], run.id).inserted == 1


@pytest.mark.postgres
def test_a_connection_lost_within_a_batch_stores_nothing_of_it(
    postgres_url: str, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(postgres_url)
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add_traces(run.id, TRACES)
    given = verdicts(store)
    insert = draftproof.store.verdict_store.insert_attempts

    def lose(*arguments: object) -> int:  # after the verdicts, before the commit
        _kick_everyone(postgres_url)
        return insert(*arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(draftproof.store.verdict_store, "insert_attempts", lose)
        with pytest.raises(StoreUnreachableError, match=r"cannot be reached.*Run the same command again"):
            store.add(
                [*given, made_verdict(step_pair(TRACES[0], 99))],
                run.id,
                attempts=[Attempt(step_pair(TRACES[0]), 1, "timeout")],
            )
    assert list(store.iter_verdicts()) == []
    assert store.add(given, run.id).inserted == len(given)
    store.finish_run(run.id)


@pytest.mark.postgres
def test_a_connection_lost_within_the_rows_stores_none(
    postgres_url: str, open_store: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(postgres_url)
    run = store.begin_run("test")
    given = verdicts(store)

    class Losing(list[Any]):
        """Rows that end the connection once half of them are on their way."""

        def __iter__(self) -> Iterator[Any]:
            for number in range(len(self)):
                if number == len(self) // 2:
                    _kick_everyone(postgres_url)
                yield self[number]

    rows_of = draftproof.store.verdict_store.rows_of
    with monkeypatch.context() as patch:
        patch.setattr(draftproof.store.verdict_store, "rows_of", lambda *a: Losing(rows_of(*a)))
        with pytest.raises(StoreUnreachableError, match=r"cannot be reached.*Run the same command again"):
            store.add(given, run.id)
    assert list(store.iter_verdicts()) == []
    assert store.add(given, run.id).inserted == len(given)


@pytest.mark.postgres
def test_a_connection_lost_while_reading_is_reported(postgres_url: str, open_store: Opener) -> None:
    store = open_store(postgres_url)
    run = store.begin_run("test")
    sizes = [(trace.digest, 40) for trace in TRACES]
    store.add([made_verdict(pair) for pair in store.missing(sizes, [ARITHMETIC])], run.id)
    stream = store.iter_verdicts()
    next(stream)
    _kick_everyone(postgres_url)
    with pytest.raises(StoreUnreachableError, match="cannot be reached"):
        list(stream)


@pytest.mark.postgres
def test_a_server_that_stops_and_comes_back(start_postgres: Callable[[str], Any], open_store: Opener) -> None:
    server = start_postgres("stopping")
    store = open_store(server.get_uri())
    run = store.begin_run("test", verifiers=[ARITHMETIC])
    store.add([made_verdict(step_pair(TRACES[0]))], run.id)
    server.cleanup()
    with pytest.raises(StoreUnreachableError, match=r"cannot be reached.*finished work is kept"):
        store.add([made_verdict(step_pair(TRACES[1]))], run.id)
    server = start_postgres("stopping")
    assert store.add([made_verdict(step_pair(t)) for t in TRACES[:2]], run.id).inserted == 1
    store.close()
    server.cleanup()


class _Driver(Exception):
    def __init__(self, sqlstate: str | None, text: str = "the server's words") -> None:
        super().__init__(text)
        self.sqlstate = sqlstate


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("53100", "out of resources"),
        ("53300", "out of resources"),
        ("40P01", "locked by other writers"),
        ("28P01", "refuses this user"),
        ("25006", "refuses this user"),
        ("57P01", "cannot be reached"),
        ("08006", "cannot be reached"),
    ],
)
def test_what_a_server_says_is_put_into_words(state: str, words: str) -> None:
    url = parse_url("postgresql://u:secret@h/d")
    found = translate(exc.DBAPIError("SQL", {}, _Driver(state, "password secret\nLINE 1")), url)
    assert isinstance(found, StoreUnreachableError)
    assert words in str(found)
    assert "(password ***)" in str(found)


def test_a_fault_of_our_own_is_not_called_the_databases() -> None:
    """Wrong SQL must stay a bug, with its traceback."""
    for state in ("42601", None):
        error = exc.DBAPIError("SQL", {}, _Driver(state))
        assert translate(error, parse_url("postgresql://h/d")) is error
    store_error = exc.DBAPIError("SQL", {}, _Driver(None), connection_invalidated=True)
    assert isinstance(translate(store_error, parse_url("postgresql://h/d")), StoreUnreachableError)
