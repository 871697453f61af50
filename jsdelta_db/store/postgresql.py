"""PostgreSQL connections that are waited for only so long, and that Ctrl-C ends.

A server that is busy may take as long as it needs; one that does not answer at all (stopped, or cut off) is
told from it by asking, from time to time, whether it is there.
"""

import logging
import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import conninfo, pq, waiting
from sqlalchemy import Engine, event

CONNECT_SECONDS = 5  # to a server that accepts and says nothing
ASK_SECONDS = 5.0  # of silence, until the server is asked whether it is there
GIVE_UP_SECONDS = 12.0  # of silence, from a server that is not there
PING_SECONDS = 2  # libpq's shortest
CANCEL_SECONDS = 1.0  # for the server to end a statement after Ctrl-C
LIMITS = {
    "connect_timeout": CONNECT_SECONDS,
    "tcp_user_timeout": 10_000,  # milliseconds without a sign that what was sent arrived
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
}


class Watch:
    """What is known of one server's silence, by all connections of an engine.

    Args:
        shown: the server's name, without a password.
    """

    def __init__(self, shown: str) -> None:
        self._shown, self._is_silent, self._is_told = shown, False, False
        self._given_up_at = 0.0

    def ask(self, connection: psycopg.Connection[Any]) -> bool:
        """Return whether the server is there; say so, once, if it is not."""
        info = connection.info
        where = conninfo.make_conninfo(host=info.host, port=info.port, connect_timeout=PING_SECONDS)
        self._is_silent = pq.PGconn.ping(where.encode()) == pq.Ping.NO_RESPONSE
        if self._is_silent and not self._is_told:
            logging.getLogger("jsdelta_db").warning("waiting for %s, which does not answer", self._shown)
            self._is_told = True
        return not self._is_silent

    def give_up(self) -> psycopg.OperationalError:
        """Return the error of a statement without an answer."""
        self._given_up_at = time.monotonic()
        return psycopg.OperationalError(f"no answer within {GIVE_UP_SECONDS:g} seconds")

    def check(self) -> None:
        """Spare the next connection the same wait, right after a server was given up.

        Raises:
            psycopg.OperationalError: it was.
        """
        if self._is_silent and time.monotonic() - self._given_up_at < CONNECT_SECONDS:
            raise psycopg.OperationalError("it does not answer")


class LimitedConnection(psycopg.Connection[Any]):  # type: ignore[misc]  # it is optional
    """A connection that gives up a server that does not answer."""

    watch: Watch

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:  # noqa: ANN401 psycopg's own
        """Wait for a statement's end.

        Raises:
            psycopg.OperationalError: the server is not there (any more).
        """
        try:
            return waiting.wait(self._limited(gen), self.pgconn.socket, *args, **{"interval": 0.1, **options})
        except KeyboardInterrupt:
            with suppress(Exception):
                self.cancel_safe(timeout=CANCEL_SECONDS)
            self.close()  # whatever the statement did is undone; nobody waits for it
            raise

    def _limited(self, statement: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Step a statement, as psycopg does, while the server answers or can be thought to."""
        asked = answered = time.monotonic()
        try:
            state = next(statement)
            while True:
                is_ready = yield state
                now = time.monotonic()
                if is_ready:
                    asked = answered = now
                elif now - asked > ASK_SECONDS:
                    if self.watch.ask(self):
                        answered = now
                    elif now - answered > GIVE_UP_SECONDS:
                        self.close()
                        raise self.watch.give_up()
                    asked = time.monotonic()
                state = statement.send(is_ready)
        except StopIteration as end:
            return end.value


def limit_waiting(engine: Engine, shown: str) -> None:
    """Let an engine make connections of this kind.

    Args:
        shown: the server's name for messages.
    """
    watch = Watch(shown)

    @event.listens_for(engine, "do_connect")
    def _connect(_: object, __: object, arguments: list[Any], options: dict[str, Any]) -> LimitedConnection:
        watch.check()
        given = LIMITS | options
        connection: LimitedConnection = LimitedConnection.connect(*arguments, **given)
        connection.watch = watch
        return connection
