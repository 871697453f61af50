"""torchattacks' attacks: ``torchattacks:PGD``, ``torchattacks:APGDT``."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jsdelta_db.compute.attacks.callables.adapters.constructing import construct, find_constructor
from jsdelta_db.compute.attacks.callables.counting import CountedModel
from jsdelta_db.errors import UsageError

NORMS = {"linf": "Linf", "l2": "L2"}


def make(attack: str) -> Callable[..., Tensor]:
    """Return an attack of torchattacks as a callable like any other.

    Raises:
        UnknownNameError: there is no such attack.
    """
    constructor = find_constructor("torchattacks", attack)

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
        # Its default seed is the clock; this one is the chunk's.
        seed = int(torch.randint(2**31, ()))
        offered = {"eps": eps, "norm": NORMS[norm], "n_classes": model.n_classes, "seed": seed}
        made = construct(constructor, model, given=arguments, offered=offered)
        if target_label is None:
            return made(x, label)  # type: ignore[no-any-return] # images
        if "targeted" not in made.supported_mode:
            raise UsageError(f"{attack} of torchattacks takes no target labels; add --untargeted")
        made.set_mode_targeted_by_label(quiet=True)
        return made(x, target_label)  # type: ignore[no-any-return]

    return call
