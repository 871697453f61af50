"""Memory of a device: errors that mean it does not suffice, and batches that are halved until it does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import clear_frames
from typing import TYPE_CHECKING, TypeVar

from jsdelta_db.errors import OutOfMemoryError

if TYPE_CHECKING:
    import torch

# torch has a type of its own for its CUDA allocator alone: the CPU's, cuDNN's and cuBLAS's errors are told
# from other RuntimeErrors by their text.
TEXTS = ("allocate memory", "out of memory", "ALLOC_FAILED")
ADVICE = "end other programs that use the memory, or take a smaller network"

Result = TypeVar("Result")


def is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, says that memory does not suffice."""
    if error is None:
        return False
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in TEXTS):
        return True
    # The end of a failed capture raises an error of its own over the first one.
    return is_out_of_memory(error.__cause__ or error.__context__)


@contextmanager
def explaining_memory(doing: str, advice: str = ADVICE) -> Iterator[None]:
    """Raise out of memory in a block as one line.

    Args:
        doing: the work, such as ``while building data set 'robust'``.
        advice: what to try.

    Raises:
        OutOfMemoryError: the memory does not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise OutOfMemoryError(f"out of memory {doing}; {advice}") from error


class SubBatch:
    """The most images that a device is given at once, halved when its memory does not suffice for them.

    Attributes:
        size: images; it only falls, so that later work begins with what has worked.
    """

    def __init__(self, size: int) -> None:
        self.size = self._whole = size

    @property
    def if_halved(self) -> int | None:
        """The size as chunks record it: None while all fits at once."""
        return None if self.size == self._whole else self.size

    def fit(self, work: Callable[[int], Result], doing: str) -> Result:
        """Return the result of work at the size; where memory ends, all of it is done again at the half.

        Args:
            work: called with the size.
            doing: the work, such as ``while attacking``.

        Raises:
            OutOfMemoryError: not even one image at a time fits.
        """
        while True:
            try:
                return work(self.size)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise OutOfMemoryError(
                        f"out of memory {doing}, even with one image at a time; {ADVICE}"
                    ) from error
            # Not in the except block: there the error still holds all tensors of the failed try.
            self.size //= 2
            release_cached_memory()


def free_bytes(device: "torch.device") -> int:
    """Return the memory of a card that nobody uses: its free one, and what torch holds ready here."""
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def release_variables(error: BaseException | None) -> None:
    """Have an error that is kept hold none of the tensors of the functions that it came through."""
    while error is not None:
        clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def release_cached_memory() -> None:
    """Return the memory that torch holds and does not use to the CUDA devices."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call] # torch's own annotations lack it
        torch.cuda.empty_cache()
