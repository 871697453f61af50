"""Background calls: made one after the other in a thread, while whoever hands them over goes on."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager


class Background:
    """Calls in the order in which they are handed over; after one that fails, none is made any more."""

    def __init__(self, pool: ThreadPoolExecutor | None) -> None:
        self._pool = pool
        self._calls: list[Future[None]] = []

    def call(self, work: Callable[[], None]) -> None:
        """Hand over a call, or make it here and now where there is no thread."""
        if self._pool is None:
            work()
            return
        before = self._calls[-1] if self._calls else None

        def unless_failed() -> None:
            if before is None or before.exception() is None:
                work()
            else:
                before.result()  # hands the first error on

        self._calls.append(self._pool.submit(unless_failed))

    def wait(self) -> bool:
        """Wait until all calls are made; raise the error of the first that failed.

        Returns:
            Whether there was any since the last wait.
        """
        calls, self._calls = self._calls, []
        for each in calls:
            each.result()
        return bool(calls)


@contextmanager
def in_background(name: str, *, is_on: bool) -> Iterator[Background]:
    """Make calls in a thread for the duration of a block, or in the caller's own.

    What was handed over is done when the block ends, however it ends; the block's own error goes first.

    Args:
        name: of the thread.
    """
    if not is_on:
        yield Background(None)
        return
    with ThreadPoolExecutor(1, thread_name_prefix=name) as pool:
        background = Background(pool)
        yield background
        background.wait()
