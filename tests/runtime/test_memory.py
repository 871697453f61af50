"""Memory: its errors told from others, one line for them, and batches that are halved until they fit."""

import pytest
import torch

from jsdelta_db.errors import OutOfMemoryError
from jsdelta_db.runtime.memory import SubBatch, explaining_memory, is_out_of_memory


def raised_by(work):
    """Return the error that a function raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 any
        work()
    return raised.value


def failed_capture():
    """Raise over an error what the end of a capture raises."""
    try:
        raise torch.OutOfMemoryError("CUDA out of memory")
    finally:
        raise RuntimeError("the capture was invalidated")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: out of memory"),
        raised_by(failed_capture),
        raised_by(lambda: torch.empty(2**60)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_out_of_memory_is_told_from_other_errors(error):
    """Whatever the device and the library that raises it, also below the error of a failed capture."""
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", [RuntimeError("size mismatch"), ValueError("out of memory"), KeyError("x")])
def test_other_errors_are_not(error):
    """They are somebody's fault, and come through as they are."""
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), explaining_memory("while testing"):
        raise error


def test_out_of_memory_is_explained_in_one_line():
    """What was done and what to try; the library's own error stays below it."""
    with pytest.raises(OutOfMemoryError) as raised, explaining_memory("while testing", "try less"):
        torch.empty(2**60)
    assert str(raised.value) == "out of memory while testing; try less"
    assert is_out_of_memory(raised.value)


def room_for(images, tried):
    """Return work that needs memory for each image."""

    def work(size):
        tried.append(size)
        if size > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return size * 2

    return work


def test_a_batch_is_halved_until_it_fits_and_stays_so():
    """The next one begins with what has worked."""
    tried, batch = [], SubBatch(100)
    assert batch.fit(room_for(30, tried), "while testing") == 50
    assert batch.fit(room_for(30, tried), "while testing") == 50
    assert (tried, batch.size) == ([100, 50, 25, 25], 25)


def test_a_single_image_that_does_not_fit_is_an_error_of_one_line():
    """Then there is nothing left to halve."""
    tried = []
    with pytest.raises(
        OutOfMemoryError, match="while testing, even with one image at a time; end other programs"
    ):
        SubBatch(5).fit(room_for(0, tried), "while testing")
    assert tried == [5, 2, 1]


def test_the_failed_try_is_let_go_before_the_next():
    """Its tensors would else take the memory that the half needs."""
    import weakref

    held = []

    def work(size):
        mine = torch.zeros(3)
        assert not held or held[0]() is None
        held.append(weakref.ref(mine))
        if size > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    SubBatch(4).fit(work, "while testing")
    assert len(held) == 2


def test_other_errors_halve_nothing():
    """They come through at once."""
    batch = SubBatch(8)
    with pytest.raises(ZeroDivisionError):
        batch.fit(lambda size: 1 // 0, "while testing")
    assert batch.size == 8
