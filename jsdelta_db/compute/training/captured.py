"""Captured functions: of tensors, recorded as a CUDA graph once for each shape of them, and replayed.

A graph keeps the memory that it computes in for itself. Where that would leave too little for the training,
which does without, the function is called as it is.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from jsdelta_db.compute.attacks.capture import WARM_UP_STEPS, Capture, RepeatedStep, find_graphs
from jsdelta_db.runtime.memory import is_out_of_memory, release_cached_memory

Function = Callable[..., Tensor]


class CapturedFunction:
    """A function of tensors that is captured where that is possible; its first three calls are plain ones.

    Args:
        function: its result is shaped like its first argument. All else that it reads, such as weights, is
            changed in place.
        capture: whether it may be captured, and who is told that it was not.
    """

    def __init__(self, function: Function, capture: Capture) -> None:
        self._function, self._capture = function, capture
        self._by_shape: dict[tuple[torch.Size, ...], _Recorded] = {}

    def __call__(self, *given: Tensor) -> Tensor:
        """Return the function's result, which the next call may overwrite."""
        if self._capture.is_allowed and find_graphs(given[0].device) is not None:
            result = self._call_captured(given)
            if result is not None:
                return result
        self._by_shape.clear()
        return self._function(*given)

    def _call_captured(self, given: Sequence[Tensor]) -> Tensor | None:
        """Return the result, None where the memory does not suffice."""
        shapes = tuple(each.shape for each in given)
        try:
            if shapes not in self._by_shape:
                self._by_shape[shapes] = _Recorded(self._function, given, self._capture)
            recorded = self._by_shape[shapes]
            if not recorded.is_next_captured or has_room(given[0].device):
                return recorded.call(given)
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        self._by_shape.clear()  # not in the except block: there the error still holds what failed
        release_cached_memory()
        self._capture.refuse("the memory does not suffice")
        return None


class _Recorded:
    """The function on tensors of its own, of one shape."""

    def __init__(self, function: Function, given: Sequence[Tensor], capture: Capture) -> None:
        self._function = function
        self._given = [torch.empty_like(each) for each in given]
        self._result = torch.empty_like(given[0])
        self._repeated = RepeatedStep(self._step, given[0].device, capture)
        self._calls = 0

    @property
    def is_next_captured(self) -> bool:
        """Whether the next call is the one that captures."""
        return self._calls == WARM_UP_STEPS

    def call(self, given: Sequence[Tensor]) -> Tensor:
        """Return the result on a copy of what is given."""
        for mine, each in zip(self._given, given, strict=True):
            mine.copy_(each)
        self._calls += 1
        self._repeated.run(1)
        return self._result

    def _step(self) -> None:
        self._result.copy_(self._function(*self._given))


def has_room(device: torch.device) -> bool:
    """Return whether so much memory is free as ever was in use at a time: a graph takes no more."""
    if device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return free >= torch.cuda.max_memory_allocated(device) - torch.cuda.memory_allocated(device)
