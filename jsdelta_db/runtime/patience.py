"""Patience with servers, disks and locks: calls that are waited for only so long, and Ctrl-C meanwhile."""

import queue
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

Result = TypeVar("Result")
Waiting: TypeAlias = "queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]"

GRACE_SECONDS = 0.5  # for a call in progress when Ctrl-C comes: one that gets an answer ends well before


@dataclass(frozen=True, slots=True)
class Limit:
    """Seconds until a call is given up, and until somebody is told that it is waited for."""

    give_up: float
    tell: float


class NoAnswerError(Exception):
    """A call that got no answer within its limit."""


class LimitedCalls:
    """Calls made one after the other in a thread of their own.

    A call that gets no answer is left behind with the thread, which does not keep the process from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: Waiting | None = None

    def make(self, call: Callable[[], Result], limit: Limit, tell: Callable[[], None]) -> Result:
        """Make a call and return its result; its errors are raised here.

        Args:
            tell: called once if the call takes long.

        Raises:
            NoAnswerError: it took too long, or did not end when it was interrupted.
        """
        future: Future[Result] = Future()
        self._start().put((future, call))
        try:
            if not wait([future], min(limit.tell, limit.give_up)).done and limit.tell < limit.give_up:
                tell()
                wait([future], limit.give_up - limit.tell)
        except BaseException:
            if not wait([future], GRACE_SECONDS).done:
                self._waiting = None  # the next call does not queue behind this one
            raise
        if not future.done():
            self._waiting = None
            raise NoAnswerError(f"no answer within {limit.give_up:g} seconds")
        return future.result()

    def _start(self) -> Waiting:
        if self._waiting is None:
            self._waiting = queue.SimpleQueue()
            weakref.finalize(self, self._waiting.put, None)  # the thread ends with whoever makes calls
            threading.Thread(target=_work, args=(self._waiting,), name=self._name, daemon=True).start()
        return self._waiting


def _work(waiting: Waiting) -> None:
    while (given := waiting.get()) is not None:
        future, call = given
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 raised where the call was made
            future.set_exception(error)
        del given, future, call  # they may hold whoever made the call
