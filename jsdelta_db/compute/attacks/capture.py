"""Captured steps: one step recorded as a CUDA graph and replayed; taken one by one where that fails.

A graph is a list of kernels on fixed memory; a replay runs no Python and waits for nothing. So a step must
find what it reads, and leave what it writes, in the same tensors each time: new values are copied into them.
Its last change must be the very last thing it does: a step that fails is taken once more.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from typing import Any, Generic, Protocol, TypeVar

import torch

from jsdelta_db.errors import first_line
from jsdelta_db.runtime.memory import is_out_of_memory

WARM_UP_STEPS = 3  # before a capture: libraries allocate their workspaces; they are steps like any other
ASK_EVERY = 10  # steps on CUDA, where an answer makes the host wait for all that was begun

Result = TypeVar("Result")


class Capture:
    """Whether the steps on some networks may be captured; one refusal holds for all later steps on them.

    Attributes:
        is_allowed: False from a refusal on.
        tell: gets one line at the refusal.
    """

    def __init__(self, *, is_allowed: bool = True, tell: Callable[[str], None] = lambda line: None) -> None:
        self.is_allowed, self.tell = is_allowed, tell

    def refuse(self, reason: str) -> None:
        """Take all steps one by one from now on, and say so once."""
        if self.is_allowed:
            self.is_allowed = False
            self.tell(f"a step cannot be captured as a CUDA graph ({reason}); it runs uncaptured, and slower")


class Graphs(Protocol):
    """What captures steps on a device; tests count with one of their own."""

    def beside(self) -> AbstractContextManager[None]:
        """Run a block on a stream of its own: what was begun before comes first, what follows comes later."""

    def refusing_waits(self) -> AbstractContextManager[None]:
        """Raise RuntimeError where something in a block makes the host wait for the device."""

    def capture(self, step: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """Record a step without running it; return its replay, and the result that replays overwrite."""


class CudaGraphs:
    """CUDA graphs on a side stream."""

    def __init__(self, stream: torch.cuda.Stream) -> None:
        self._stream = stream

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Run a block on the side stream; the current one is current again afterwards, whatever failed."""
        before = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(before)
        try:
            with torch.cuda.stream(self._stream):
                yield
        finally:
            before.wait_stream(self._stream)

    @contextmanager
    def refusing_waits(self) -> Iterator[None]:
        """Have torch raise where it synchronizes."""
        before = torch.cuda.get_sync_debug_mode()
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode(before)

    def capture(self, step: Callable[[], Result]) -> tuple[Callable[[], None], Result]:
        """Record a step on the side stream: in ``beside()``, so that a failure leaves no other current."""
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):
            result = step()
        return graph.replay, result


def find_graphs(device: torch.device) -> Graphs | None:
    """Return what captures steps on a device, None where nothing can be captured."""
    if device.type != "cuda":
        return None
    return _graphs_of(torch.cuda.current_device() if device.index is None else device.index)


@lru_cache
def _graphs_of(index: int) -> CudaGraphs:
    """Return a device's graphs: torch keeps memory apart for each stream, so there is one."""
    make_stream: Callable[..., Any] = torch.cuda.Stream  # torch's own annotations lack it
    return CudaGraphs(make_stream(device=index))


class RepeatedStep(Generic[Result]):
    """A step that is taken many times: captured once it is warm, and replayed from then on.

    It may be run again and again, with new values in its tensors: the graph stays.
    """

    def __init__(self, step: Callable[[], Result], device: torch.device, capture: Capture) -> None:
        self._step, self._capture = step, capture
        self._graphs = find_graphs(device) if capture.is_allowed else None
        self._ask_every = ASK_EVERY if device.type == "cuda" else 1
        self._n_warm = 0
        self._captured: tuple[Callable[[], None], Result] | None = None

    def run(self, count: int, is_over: Callable[[Result], bool] | None = None) -> None:
        """Take the step ``count`` times, whether warming up, replayed or uncaptured.

        Args:
            is_over: told a step's result, says whether the rest can be left out. Asked after each step;
                on CUDA after each tenth.
        """
        with nullcontext() if self._graphs is None else self._graphs.beside():
            for done in range(1, count + 1):
                result = self._take()
                if is_over is not None and done % self._ask_every == 0 and is_over(result):
                    return

    def _take(self) -> Result:
        if self._captured is None and self._graphs is not None and self._capture.is_allowed:
            return self._warm_up_or_capture(self._graphs)
        if self._captured is None:
            return self._step()
        replay, result = self._captured
        replay()
        return result

    def _warm_up_or_capture(self, graphs: Graphs) -> Result:
        self._n_warm += 1
        if self._n_warm < WARM_UP_STEPS:
            return self._step()
        try:
            if self._n_warm == WARM_UP_STEPS:
                with graphs.refusing_waits():
                    return self._step()
            self._captured = graphs.capture(self._step)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            reason = first_line(error.__context__ or error)  # a capture's end has an error of its own
        else:
            return self._take()
        result = self._step()  # raises where the step itself is at fault, which then is no refusal
        self._capture.refuse(reason)
        return result
