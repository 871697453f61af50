"""The Adversarial Robustness Toolbox's attacks: ``art:ProjectedGradientDescent``."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks.callables.adapters.constructing import (
    accepts,
    construct,
    find_constructor,
)
from jsdelta_db.compute.attacks.callables.counting import CountedModel
from jsdelta_db.errors import UsageError

NORMS = {"linf": np.inf, "l2": 2}
STEPS_ACROSS = 4  # its own default, 0.1, is larger than most ε, which it refuses


def make(attack: str) -> Callable[..., NDArray[np.float32]]:
    """Return an attack of ART as a callable like any other.

    Raises:
        UnknownNameError: there is no such attack.
    """
    constructor = find_constructor("art.attacks.evasion", attack)

    def call(
        model: CountedModel,
        x: Tensor,
        label: Tensor,
        target_label: Tensor | None,
        eps: float,
        norm: str,
        /,
        **arguments: Any,  # noqa: ANN401 the constructor's
    ) -> NDArray[np.float32]:
        if target_label is not None and not accepts(constructor, "targeted"):
            raise UsageError(f"{attack} of art takes no target labels; add --untargeted")
        offered = {
            "eps": eps, "eps_step": eps / STEPS_ACROSS, "norm": NORMS[norm], "batch_size": len(x),
            "targeted": target_label is not None, "verbose": False,
        }  # fmt: skip
        made = construct(constructor, _estimator(model, x), given=arguments, offered=offered)
        aimed = label if target_label is None else target_label
        return made.generate(x.cpu().numpy(), np.eye(model.n_classes)[aimed.cpu().numpy()])  # type: ignore[no-any-return]

    return call


def _estimator(model: CountedModel, x: Tensor) -> Any:  # noqa: ANN401 of the library
    from art.estimators.classification import PyTorchClassifier

    return PyTorchClassifier(
        model, torch.nn.CrossEntropyLoss(), tuple(x.shape[1:]), model.n_classes, clip_values=(0.0, 1.0),
        device_type="gpu" if x.is_cuda else "cpu",
    )  # fmt: skip
