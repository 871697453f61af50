"""Opening a store: what is made, what is refused, and what the one line says."""

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest
from alembic import command
from sqlalchemy import event, inspect, text
from sqlalchemy.exc import OperationalError

from jsdelta_db.errors import StoreError, StoreNotReadyError, UsageError
from jsdelta_db.store import session as session_module
from jsdelta_db.store import sqlite
from jsdelta_db.store.addresses import parse_url
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.schema import HEAD_REVISION, VERSION_TABLE
from jsdelta_db.store.session import Store, make_engine, open_store, reading_store, reporting, translate
from jsdelta_db.workbench.workbench import open_workbench

OPENERS = pytest.mark.parametrize("opener", [open_store, open_for_writing, upgrade])
WRITER = """
import sys
from jsdelta_db.store import runs
from jsdelta_db.store.creating import open_for_writing
store = open_for_writing(sys.argv[1])
for number in range(10):
    with store.transaction() as session:
        name = f"{sys.argv[2]}{number:02d}"
        runs.ensure_dataset(session, name=name, classes=["a", "b"], fingerprint=name * 16)
store.close()
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with nothing else in it."""
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def url(folder) -> str:
    """A SQLite store that is not there yet."""
    return f"sqlite:///{folder / 'jsdelta.db'}"


def _set_revision(url: str, revision: str) -> None:
    engine = make_engine(parse_url(url))
    with engine.begin() as connection:
        connection.execute(
            text(f"UPDATE {VERSION_TABLE} SET version_num = :revision"), {"revision": revision}
        )
    engine.dispose()


def _names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def _insert(store: Store, rows: int) -> None:
    with store.transaction() as session:
        session.connection().exec_driver_sql(
            "INSERT INTO dataset (uid, config_hash, name, kind, classes, status, created_at) "
            "VALUES (?, ?, 'toy', 'builtin', '[]', 'finished', '2026-01-01 00:00:00')",
            [(f"{number:016x}", "0" * 64) for number in range(rows)],
        )


def _fill(url: str, rows: int) -> None:
    """Make a store that holds some data sets."""
    store = open_for_writing(url)
    _insert(store, rows)
    store.close()


def test_reading_makes_nothing_where_there_is_no_store(url, folder):
    """A query without a store names the command that makes one, and leaves the folder empty."""
    with pytest.raises(StoreNotReadyError, match=r"no store at .*jsdelta\.db; .*jsdelta train"):
        open_store(url)
    assert _names(folder) == set()


def test_reading_makes_no_folder(tmp_path):
    """A query about a workspace that is not there does not make it."""
    with pytest.raises(StoreNotReadyError):
        open_store(f"sqlite:///{tmp_path / 'nowhere' / 'jsdelta.db'}")
    assert not (tmp_path / "nowhere").exists()


def test_reading_leaves_the_folder_as_it_was(url, folder):
    """Reading an existing store leaves no file beside it."""
    _fill(url, 3)
    before = _names(folder)
    with reading_store(url) as connection:
        assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 3
    assert _names(folder) == before


def test_reading_sees_what_a_writer_that_is_still_open_committed(url):
    """A query beside a running attack shows the chunks committed so far."""
    _fill(url, 2)
    writer = open_for_writing(url)
    with writer.reading() as still_open:
        assert still_open.execute(text("SELECT count(*) FROM dataset")).scalar() == 2
        with writer.transaction() as session:
            session.execute(text("DELETE FROM dataset WHERE id = 1"))
        with reading_store(url) as connection:
            assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 1
    writer.close()


def test_writing_makes_a_sqlite_store_at_head(tmp_path):
    """The first command that writes makes folder, file and tables."""
    store = open_for_writing(f"sqlite:///{tmp_path / 'new' / 'workspace' / 'jsdelta.db'}")
    with store.reading() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalar() == HEAD_REVISION
    store.close()


def test_store_opened_for_reading_refuses_to_write(url):
    """What is opened to read cannot be changed by mistake."""
    _fill(url, 1)
    store = open_store(url)
    with pytest.raises(OperationalError, match="readonly"), store.transaction() as session:
        session.execute(text("DELETE FROM dataset"))
    store.close()
    with reading_store(url) as connection:
        assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 1


def test_store_without_room_for_sqlites_own_files_can_be_read(url, folder):
    """A store on read-only media has no place for WAL's files; queries work all the same."""
    _fill(url, 4)
    for name in ("jsdelta.db-wal", "jsdelta.db-shm"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()  # binds for root, too, unlike permissions
    with reading_store(url) as connection:
        assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 4


def test_store_that_can_not_be_written_is_refused_in_one_line(url, folder):
    """A command that writes says which file it could not write."""
    _fill(url, 4)
    for name in ("jsdelta.db-wal", "jsdelta.db-shm"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()
    with pytest.raises(StoreError, match=r"jsdelta\.db cannot be opened or written") as error:
        open_for_writing(url)
    assert len(str(error.value).splitlines()) == 1


def test_empty_postgresql_is_refused_until_upgraded(postgres_url):
    """A server's database is prepared by jsdelta db upgrade only; refusing makes no table."""
    for opener in (open_store, open_for_writing):
        with pytest.raises(StoreNotReadyError, match="holds no jsdelta tables yet; run jsdelta db upgrade"):
            opener(postgres_url)
    engine = make_engine(parse_url(postgres_url))
    assert inspect(engine).get_table_names() == []
    assert upgrade(postgres_url) == (None, None)
    open_for_writing(postgres_url).close()
    open_store(postgres_url).close()
    _set_revision(postgres_url, "0000")
    with pytest.raises(StoreNotReadyError, match="run jsdelta db upgrade"):
        open_for_writing(postgres_url)
    engine.dispose()


def test_foreign_postgresql_database_is_refused(postgres_url):
    """A database in which somebody else keeps tables is not ours to fill."""
    engine = make_engine(parse_url(postgres_url))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (id integer)"))
    for opener in (open_store, open_for_writing, upgrade):
        with pytest.raises(StoreError, match=r"belongs to something else.*customers"):
            opener(postgres_url)
    assert inspect(engine).get_table_names() == ["customers"]
    engine.dispose()


@pytest.mark.parametrize(
    ("revision", "advice"),
    [("0000", "run jsdelta db upgrade"), ("9999", "update jsdelta")],
    ids=["older", "newer"],
)
@pytest.mark.parametrize("opener", [open_store, open_for_writing])
def test_other_revisions_are_refused(revision, advice, opener, url):
    """An older store is never migrated unasked; a newer one needs a newer jsdelta."""
    upgrade(url)
    _set_revision(url, revision)
    with pytest.raises(StoreNotReadyError, match=f"schema {revision}.*{advice}"):
        opener(url)
    with sqlite3.connect(parse_url(url).database) as connection:
        assert connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(revision,)]
    connection.close()


def test_upgrade_refuses_a_newer_store(url):
    """jsdelta db upgrade does not touch what a newer version made."""
    upgrade(url)
    _set_revision(url, "9999")
    with pytest.raises(StoreNotReadyError, match="update jsdelta"):
        upgrade(url)


@OPENERS
def test_mlflows_own_database_is_refused_and_not_changed(opener, workspace):
    """JSDELTA_DB_URL on MLflow's file: a plain no, and not one byte of it is written."""
    path = workspace.root / "mlflow.db"
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"mlflow\.db belongs to MLflow, not to jsdelta"):
        opener(f"sqlite:///{path}")
    assert path.read_bytes() == before


@OPENERS
def test_somebody_elses_sqlite_file_is_refused_and_not_changed(opener, folder):
    """A file with other tables is named as somebody else's and left alone."""
    path = folder / "shop.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE customers (id INTEGER)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"shop\.db belongs to something else \(customers"):
        opener(f"sqlite:///{path}")
    assert path.read_bytes() == before


@OPENERS
def test_file_that_is_no_database_is_refused_and_not_changed(opener, folder):
    """A text file in the store's place is named as damaged, in one line."""
    path = folder / "jsdelta.db"
    path.write_text("these are my notes, not a database\n" * 200)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"jsdelta\.db is damaged or no SQLite file.*backup") as error:
        opener(f"sqlite:///{path}")
    assert len(str(error.value).splitlines()) == 1
    assert path.read_bytes() == before


@pytest.mark.parametrize("share", [0.001, 0.2, 0.5, 0.9])
def test_file_that_was_cut_off_is_reported_as_damaged(share, url, folder):
    """Whether the cut shows on opening or only in a query, the line is the same."""
    _fill(url, 2000)
    path = folder / "jsdelta.db"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with (
        pytest.raises(StoreError, match=r"jsdelta\.db is damaged"),
        reading_store(url) as connection,
    ):
        connection.execute(text("SELECT uid, name, config_hash FROM dataset ORDER BY name")).all()


def test_blank_file_becomes_a_store(url, folder):
    """What a first command leaves that was killed at once is no obstacle to the next one."""
    (folder / "jsdelta.db").touch()
    open_for_writing(url).close()
    open_store(url).close()


def test_an_address_that_would_show_its_password_is_refused():
    """A password's @ that was not quoted would make the rest of it a host, which messages name."""
    with pytest.raises(UsageError, match="write @ as %40") as error:
        parse_url("postgresql://user:half@secret@host/db")
    assert "secret" not in str(error.value)
    assert parse_url("postgresql://user:half%40secret@host/db").host == "host"


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "not a database URL"),
        ("jsdelta.db", "not a database URL"),
        ("mysql://user:secret@host/db", "names 'mysql'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("postgres://user:secret@host/db", "begins with postgres://: write postgresql:// instead"),
        (
            "postgresql+psycopg2://user:secret@host/db",
            r"begins with postgresql\+psycopg2://: write postgresql://",
        ),
        ("postgresql://user:half@sec/ret@host/db", "write @ as %40, % as %25, / as %2F"),
        ("postgresql://user:secret@host:port/db", "not a database URL"),
    ],
)
@OPENERS
def test_bad_url_is_a_usage_error_that_says_what_is_valid(opener, url, message):
    """A URL that names no usable database is refused before anything is opened."""
    with pytest.raises(UsageError, match=message) as error:
        opener(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    ["postgresql://user:secret@127.0.0.1:1/db", "postgresql://127.0.0.1:1/db?user=user&password=secret"],
    ids=["in front", "in the query"],
)
@OPENERS
def test_unreachable_server_is_one_line_without_the_password(opener, url):
    """The line names the server and hides the password, wherever the URL carries it."""
    with pytest.raises(StoreError, match=r"127\.0\.0\.1:1/db.*cannot be reached") as error:
        opener(url)
    assert "secret" not in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("opener", [open_for_writing, upgrade])
def test_folder_that_can_not_be_made_is_named(opener, tmp_path):
    """Where a file stands in the way of the workspace, the line names the folder."""
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"cannot be made.*choose another --workspace"):
        opener(f"sqlite:///{tmp_path / 'file' / 'workspace' / 'jsdelta.db'}")


@OPENERS
def test_folder_in_the_stores_place_is_refused(opener, folder):
    """A folder is no store."""
    with pytest.raises(StoreError, match="cannot be opened or written"):
        opener(f"sqlite:///{folder}")


def test_full_disk_is_one_line_and_nothing_is_half_written(workspace):
    """A store that cannot grow says so and what to do; the transaction is undone."""
    with (
        pytest.raises(StoreError, match=r"jsdelta\.db cannot grow.*free some space"),
        open_workbench(workspace) as bench,
    ):
        _fill_the_disk(bench.store)
    with reading_store(workspace.db_url) as connection:
        assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 0


def _fill_the_disk(store: Store) -> None:
    # SQLite reports its own limit in the words it has for a full disk; the file keeps the size it has.
    event.listen(store.engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count = 1"))
    store.engine.dispose()  # the connection that is kept was opened before
    _insert(store, 2000)


def test_threads_write_at_once_without_failure(url):
    """SQLite's writers queue: each transaction takes the lock at its start."""
    store = open_for_writing(url)
    with store.transaction() as session:
        session.execute(text("CREATE TABLE counter (value INTEGER)"))
        session.execute(text("INSERT INTO counter VALUES (0)"))

    def count() -> None:
        for _ in range(20):
            with store.transaction() as session:
                value = session.execute(text("SELECT value FROM counter")).scalar_one()
                session.execute(text("UPDATE counter SET value = :value"), {"value": value + 1})

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with store.reading() as connection:
        assert connection.execute(text("SELECT value FROM counter")).scalar() == 80
    store.close()


def test_four_processes_make_the_store_and_write_at_once(url):
    """Four first commands started together in a new workspace share one store, and none fails."""
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, url, name], stderr=subprocess.PIPE, text=True)
        for name in "abcd"
    ]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0, 0], errors
    with reading_store(url) as connection:
        assert connection.execute(text("SELECT count(*) FROM dataset")).scalar() == 40


def test_second_command_waits_while_the_first_makes_the_store(url, folder, monkeypatch):
    """A store whose tables are just being made is waited for, not refused."""
    making, go_on = threading.Event(), threading.Event()
    real_upgrade = command.upgrade

    def slow_upgrade(*arguments) -> None:
        making.set()
        assert go_on.wait(10)
        real_upgrade(*arguments)

    monkeypatch.setattr(command, "upgrade", slow_upgrade)
    first = threading.Thread(target=upgrade, args=(url,))
    first.start()
    assert making.wait(10)
    assert (folder / "jsdelta.db").exists()
    threading.Timer(0.3, go_on.set).start()
    try:
        open_for_writing(url).close()
    finally:
        go_on.set()
        first.join()


def test_server_url_takes_the_installed_driver():
    """A plain postgresql:// URL is enough; users need not know the driver's name."""
    assert parse_url("postgresql://host/db").drivername == "postgresql+psycopg"


def test_a_refused_password_says_how_to_write_it():
    """A password that the server does not take may hold characters that a URL needs quoted."""
    reason = Exception('password authentication failed for user "me"')
    error = translate(OperationalError("", None, reason), parse_url("postgresql://me:a%41@host/db"))
    assert str(error).startswith("postgresql://me:***@host/db refuses the user or the password (")
    assert "% as %25" in str(error)


def test_locked_store_is_one_line_that_says_so(url, folder, monkeypatch, caplog):
    """Another process's lock is named as one, after it was waited for and that was said once."""
    _fill(url, 1)
    monkeypatch.setattr(sqlite, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(session_module, "TRY_SECONDS", 0.05)
    monkeypatch.setattr(sqlite, "TELL_SECONDS", 0.1)
    with closing(sqlite3.connect(folder / "jsdelta.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(StoreError, match=r"jsdelta\.db is locked: another process writes it; wait for it"),
            reporting(parse_url(url)),
        ):
            _fill(url, 1)
    assert [record.getMessage() for record in caplog.records] == [
        f"waiting for another process that writes {folder / 'jsdelta.db'}"
    ]
