"""PostgreSQL servers that do not answer: given up within seconds, and Ctrl-C before that."""

import os
import signal
import socket
import threading
import time
from contextlib import nullcontext

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from jsdelta_db.errors import StoreError
from jsdelta_db.store import postgresql
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.migrate import upgrade
from jsdelta_db.store.session import open_store
from tests.stopping import stopped


@pytest.fixture
def store(postgres_url):
    """An empty store on a server."""
    upgrade(postgres_url)
    opened = open_for_writing(postgres_url)
    yield opened
    opened.close()


def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch):
    """A connection that is accepted and never answered is one line, after the limit."""
    monkeypatch.setitem(postgresql.LIMITS, "connect_timeout", 2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(
            StoreError, match=rf"127\.0\.0\.1:{port}/db cannot be reached: connection timeout"
        ):
            open_store(f"postgresql://user@127.0.0.1:{port}/db")


def test_a_stopped_server_is_given_up(store, postgres_url, monkeypatch, caplog):
    """A server that stops in the middle is told of once, given up, and not waited for again at once."""
    monkeypatch.setattr(postgresql, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(postgresql, "GIVE_UP_SECONDS", 0.5)
    with store.reading() as connection:
        connection.execute(text("SELECT 1"))
        with stopped(postgres_url):
            with pytest.raises(OperationalError, match="no answer within"):
                connection.execute(text("SELECT 1"))
            with pytest.raises(OperationalError, match="it does not answer"), store.reading():
                pass
    assert [record.getMessage().partition(", ")[2] for record in caplog.records] == ["which does not answer"]


def test_a_slow_statement_is_waited_for(store, monkeypatch, caplog):
    """A server that is there is waited for, however long its answer takes."""
    monkeypatch.setattr(postgresql, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(postgresql, "GIVE_UP_SECONDS", 0.2)
    with store.reading() as connection:
        assert connection.execute(text("SELECT 7 FROM pg_sleep(1)")).scalar() == 7
    assert caplog.records == []


@pytest.fixture
def heeding_ctrl_c():
    """A shell's background job ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
@pytest.mark.parametrize("is_stopped", [True, False], ids=["stopped", "slow"])
def test_ctrl_c_ends_the_wait(is_stopped, store, postgres_url):
    """Ctrl-C gets through while a statement waits, whether the server answers or not."""

    def interrupt() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)

    with store.reading() as connection:
        connection.execute(text("SELECT 1"))
        with stopped(postgres_url) if is_stopped else nullcontext():
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                connection.execute(text("SELECT pg_sleep(600)"))
