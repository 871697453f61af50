"""Memory order of networks: channels last, faster for convolutions, or contiguous where they need it."""

import torch
from torch import Tensor, nn

from jsdelta_db.compute.models.equivalence import find_difference, observe
from jsdelta_db.compute.models.networks import Normalized

FEW = 8  # images; each of them meets the same operations


def arrange(network: nn.Module, images: Tensor) -> nn.Module:
    """Put a network's weights into channels-last order, unless it fails or computes something else there.

    Many older networks end in ``x.view(n, -1)``, which behind a convolution needs contiguous ones and images.

    Args:
        network: on its device, in any mode; it is changed in place and returned.
        images: see :func:`jsdelta_db.compute.models.equivalence.probe_images`.
    """
    few = images[:FEW]
    expected = observe(network, few.contiguous())
    _reorder(network, torch.channels_last)
    if find_difference(expected, network, few) is not None:
        _reorder(network, torch.contiguous_format)
        if isinstance(network, Normalized):
            network.needs_contiguous = True
    return network


def _reorder(network: nn.Module, order: torch.memory_format) -> None:
    network.to(memory_format=order)
