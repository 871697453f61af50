"""Counts of what makes a host wait for its device: values that are read, and tensors that come back."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Readings(TorchDispatchMode):
    """Counts the values that are read from tensors: ``float(x)``, ``bool(x)``, ``x.item()``."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*arguments, **(named or {}))


class Traffic:
    """Notes what goes to a device, by dtype, and what comes back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.sent, self.blocking, self.returned = [], 0, 0
        to, cpu = torch.Tensor.to, torch.Tensor.cpu

        def sending(tensor, *given, **named):
            if given and isinstance(given[0], torch.device):
                self.sent.append(tensor.dtype)
                self.blocking += not named.get("non_blocking", False)
            return to(tensor, *given, **named)

        def returning(tensor):
            self.returned += 1
            return cpu(tensor)

        patch.setattr(torch.Tensor, "to", sending)
        patch.setattr(torch.Tensor, "cpu", returning)
