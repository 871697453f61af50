"""Operations of torch, counted while a block runs: what would be a kernel, a copy or a wait on a card."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# They move or name memory, or give it: no kernel.
FREE = (
    "alias",
    "as_strided",
    "detach",
    "empty",
    "expand",
    "permute",
    "select",
    "slice",
    "t",
    "unsqueeze",
    "view",
)


class Operations(TorchDispatchMode):
    """Counts of operations by name.

    Attributes:
        to_card: what was copied from the CPU to another device, with the copies' options.
    """

    def __init__(self) -> None:
        super().__init__()
        self._counts: Counter[str] = Counter()
        self.to_card: list[tuple[Tensor, dict[str, Any]]] = []

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: object, given: tuple[Any, ...] = (), options: Any = None
    ) -> Any:
        """Count, and do it."""
        options = options or {}
        name = str(function).split(".")[1]
        self._counts[name] += 1
        result = function(*given, **options)
        if name in ("_to_copy", "copy_"):
            source = given[name == "copy_"]
            if source.device != result.device:
                self.to_card.append((source, options))
        return result

    @property
    def kernels(self) -> int:
        """How many would be launched."""
        return sum(n for name, n in self._counts.items() if name.removesuffix("_like") not in FREE)

    @property
    def waits(self) -> int:
        """How often a value is read, for which the host waits."""
        return self._counts["_local_scalar_dense"] + self._counts["is_nonzero"] + self._counts["nonzero"]
