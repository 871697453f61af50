"""One optimizer update, by training method."""

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer

from jsdelta_db.errors import UnknownNameError

Forward = Callable[[Tensor], Tensor]  # the model under the run's autocast, returning float32 logits
# (model, forward, optimizer, images in [0, 1], labels) -> loss and logits before the update
Step = Callable[[nn.Module, Forward, Optimizer, Tensor, Tensor], tuple[Tensor, Tensor]]


def standard_step(
    model: nn.Module, forward: Forward, optimizer: Optimizer, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """Descend the cross-entropy on clean images; no label smoothing, which would shrink ρ."""
    del model
    logits = forward(x)
    loss = F.cross_entropy(logits, y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return loss.detach(), logits.detach()


METHODS: dict[str, Step] = {"standard": standard_step}


def find_method(name: str) -> Step:
    """Return the step of a training method.

    Raises:
        UnknownNameError: no method of that name.
    """
    if name not in METHODS:
        raise UnknownNameError("method", name, METHODS)
    return METHODS[name]
