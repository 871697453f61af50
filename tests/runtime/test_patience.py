"""Calls that are waited for only so long."""

import gc
import os
import signal
import threading
import time

import pytest

from jsdelta_db.runtime.patience import Limit, LimitedCalls, NoAnswerError

SHORT = Limit(0.3, tell=0.1)


@pytest.fixture
def never():
    """An event that nobody sets until the test is over."""
    event = threading.Event()
    yield event
    event.set()


def test_results_and_errors_are_handed_on():
    """A call's result is returned and its error raised, and nothing is told of a call that is quick."""
    calls = LimitedCalls("test")
    assert calls.make(lambda: 7, SHORT, pytest.fail) == 7
    with pytest.raises(ZeroDivisionError):
        calls.make(lambda: 1 / 0, SHORT, pytest.fail)


def test_a_call_without_an_answer_is_told_of_and_given_up(never):
    """It is told once, given up, and the next call does not queue behind it."""
    calls, told = LimitedCalls("test"), []
    with pytest.raises(NoAnswerError, match=r"no answer within 0\.3 seconds"):
        calls.make(never.wait, SHORT, lambda: told.append(1))
    assert told == [1]
    assert calls.make(lambda: 7, SHORT, pytest.fail) == 7


def test_a_timeout_of_the_call_itself_is_its_own_error():
    """A call that raises TimeoutError got an answer."""

    def fail() -> None:
        raise TimeoutError("of its own")

    with pytest.raises(TimeoutError, match="of its own"):
        LimitedCalls("test").make(fail, SHORT, pytest.fail)


@pytest.fixture
def heeding_ctrl_c():
    """A shell's background job ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeding_ctrl_c")
def test_ctrl_c_ends_the_wait(never):
    """Ctrl-C gets through to a wait without end, and the next call is made."""

    def interrupt() -> None:
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    calls = LimitedCalls("test")
    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        calls.make(never.wait, Limit(600, tell=600), pytest.fail)
    assert calls.make(lambda: 7, SHORT, pytest.fail) == 7


def test_the_thread_ends_with_its_calls():
    """Nothing is left running once nobody can make calls any more."""
    calls = LimitedCalls("short-lived")
    calls.make(calls.__str__, SHORT, pytest.fail)  # a call that holds who makes it
    (thread,) = [each for each in threading.enumerate() if each.name == "short-lived"]
    del calls
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
