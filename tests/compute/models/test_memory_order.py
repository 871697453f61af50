"""The memory order of networks: channels last where that is the same function, contiguous where it is not."""

import pytest
import torch
from torch import nn

from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.compute.models.networks import Normalized, SmallCNN


class Viewing(nn.Module):
    """What most older networks do behind their convolutions."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(256, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).view(x.size(0), -1))


class ViewingTheImage(Viewing):
    """The same without a convolution."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(192, 3)

    def forward(self, x):
        return self.fc(x.view(x.size(0), -1))


class ReadingMemory(Viewing):
    """It runs in any order, and takes the numbers as they lie in memory."""

    def forward(self, x):
        features = torch.relu(self.conv(x))
        return self.fc(features.as_strided((len(x), 256), (256, 1)))


def make(network):
    torch.manual_seed(0)
    return Normalized(network, (0.5,) * 3, (0.25,) * 3).eval()


def images(order):
    return torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=order)


ORDERS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize("network", [Viewing, ViewingTheImage, ReadingMemory])
def test_networks_that_need_contiguous_images_get_them(network):
    """In whatever order images come, the logits are those of the network as it was made."""
    model = make(network())
    with torch.no_grad():
        expected = model(images(torch.contiguous_format))
        arranged = arrange(model, images(torch.channels_last))
        assert arranged is model
        for order in ORDERS:
            assert torch.equal(expected, arranged(images(order)))


def test_other_networks_are_put_channels_last():
    """Their weights lie in the faster order, and images are taken as they come."""
    model = arrange(make(SmallCNN(3, 3, 8, 4)), images(torch.channels_last))
    weights = [each.weight for each in model.modules() if isinstance(each, nn.Conv2d)]
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    assert not model.needs_contiguous


def test_an_evaluator_may_have_no_gradient():
    """A network that detaches its images is arranged like any other: only an attack needs its gradient."""

    class Detached(SmallCNN):
        def forward(self, x):
            return super().forward(x.detach())

    model = make(Detached(3, 3, 8, 4)).requires_grad_(False)
    assert not arrange(model, images(torch.channels_last)).needs_contiguous
