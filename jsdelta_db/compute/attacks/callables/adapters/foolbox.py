"""foolbox's attacks: ``foolbox:LinfPGD``."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from jsdelta_db.compute.attacks.callables.adapters.constructing import construct, find_constructor
from jsdelta_db.compute.attacks.callables.counting import CountedModel


def make(attack: str) -> Callable[..., Tensor]:
    """Return an attack of foolbox as a callable like any other; its norm is in its name.

    Raises:
        UnknownNameError: there is no such attack.
    """
    constructor = find_constructor("foolbox.attacks", attack)

    def call(
        model: CountedModel,
        x: Tensor,
        label: Tensor,
        target_label: Tensor | None,
        eps: float,
        norm: str,
        /,
        **arguments: Any,  # noqa: ANN401 the constructor's
    ) -> Tensor:
        import foolbox

        made = construct(constructor, given=arguments, offered={})
        shown = foolbox.PyTorchModel(model, bounds=(0.0, 1.0), device=x.device)
        criterion = (
            foolbox.criteria.Misclassification(label)
            if target_label is None
            else foolbox.criteria.TargetedMisclassification(target_label)
        )
        return made(shown, x, criterion, epsilons=eps)[1]  # type: ignore[no-any-return] # clipped images

    return call
