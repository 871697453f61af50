"""Preflight checks, each with a small model that misbehaves."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks.preflight import check_attempts, check_images, check_model
from jsdelta_db.compute.models.networks import Normalized, SmallCNN
from jsdelta_db.errors import DataError, ModelOutputError
from jsdelta_db.records import UNTARGETED, Attempts

SHAPE = (8, 1, 4, 4)
LABELS = torch.arange(8) % 3


def make_images():
    """Eight grey images."""
    return torch.rand(SHAPE, generator=torch.Generator().manual_seed(0))


class Answers(nn.Module):
    """A linear classifier of three classes, and what is done to its logits."""

    def __init__(self, change=lambda logits: logits):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.change = nn.Linear(16, 3), change

    def forward(self, x):
        return self.change(self.linear(x.flatten(1)))


class Rounding(Answers):
    """Rounds the image to pixel levels first, as a defence might."""

    def forward(self, x):
        return super().forward((x * 255).round() / 255)


class Detached(Answers):
    """Looks at a copy that no gradient flows back from."""

    def forward(self, x):
        return super().forward(x.detach())


class WithoutGradients(Answers):
    """Computes under no_grad."""

    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)


class Blind(Answers):
    """Looks at the image's shape alone."""

    def forward(self, x):
        return super().forward(torch.ones_like(x))


class Infinite(Answers):
    """Finite logits whose gradient is not: the root of 0."""

    def forward(self, x):
        return super().forward(x) + (x * 0).sum((1, 2, 3))[:, None].sqrt()


class AlwaysNormalizing(nn.Module):
    """Batch norm with the statistics of the batch at hand, in every mode."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(1, 4, 3), nn.Linear(16, 3)

    def forward(self, x):
        return self.linear(F.batch_norm(self.conv(x), None, None, training=True).flatten(1))


class AlwaysPooled(AlwaysNormalizing):
    """The same behind global pooling, where one image alone has no spread at all."""

    def forward(self, x):
        return self.linear(F.batch_norm(self.conv(x).mean((2, 3)), None, None, training=True).repeat(1, 4))


MISBEHAVING = [
    (Answers(lambda logits: logits.softmax(1)),
     r"model it returns probabilities \(rows add up to 1\.0000\); return logits: leave the softmax out"),
    (Answers(lambda logits: logits * torch.nan), "model it returns values that are not finite; check its weights"),
    (Answers(lambda logits: logits / 0), "model it returns values that are not finite"),
    (Answers(lambda logits: F.dropout(logits, 0.5, training=True)),
     r"gives different outputs for the same images \(by up to [\d.]+\); is dropout or noise on"),
    (Answers(lambda logits: logits + torch.rand_like(logits)), "different outputs for the same images"),
    (AlwaysNormalizing(),
     r"gives different outputs for an image alone and in a batch \(by [\d.]+\); does batch norm run in train"),
    (AlwaysPooled(), "an image alone.*does batch norm run in train"),
    (Detached(), r"no gradient of model it reaches the image; does its forward\(\) detach it or leave torch\?"),
    (Blind(), "no gradient of model it reaches the image"),
    (WithoutGradients(), "no gradient of model it reaches the image"),
    (Rounding(), "the gradient of model it is zero for 8 of 8 images; an attack cannot follow it"),
    (Answers(lambda logits: logits.sign() * 3), "gradient of model it is zero for 8 of 8 images"),
    (Infinite(), "the gradient of model it is not finite; check its weights"),
]  # fmt: skip
NAMES = (
    "softmax", "NaN", "infinite", "dropout", "noise", "batch norm", "batch norm of one", "detached", "blind",
    "no_grad", "rounding", "signs", "infinite gradient",
)  # fmt: skip


@pytest.mark.parametrize(("model", "message"), MISBEHAVING, ids=NAMES)
def test_a_model_that_misleads_an_attack_is_refused(model, message):
    """Each check raises an error of one line with its measured values."""
    with pytest.raises(ModelOutputError, match=message) as raised:
        check_model(model, make_images(), LABELS, "it")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "model",
    [
        Answers(),
        Answers(lambda logits: logits.log_softmax(1)),
        Answers(lambda logits: logits.exp()),  # positive, but its rows do not add up to 1
        Answers(lambda logits: F.dropout(logits, 0.5, training=False)),
        Answers(lambda logits: logits.to(torch.float64)),
        Answers(lambda logits: logits.to(torch.bfloat16)),
    ],
    ids=["linear", "log probabilities", "positive", "dropout that is off", "float64", "bfloat16"],
)
def test_a_model_that_can_be_attacked_passes(model):
    """Logits of any kind and width are fine."""
    check_model(model, make_images(), LABELS, "it")


def test_dropout_and_batch_norm_are_looked_at_in_eval_mode():
    """A model left in train mode is looked at in eval mode, and comes back as it was."""
    model = nn.Sequential(Normalized(SmallCNN(3, 1, 4, width=4), (0.5,), (0.25,)), nn.Dropout(0.5)).train()
    model[0].network.features.eval()
    modes = [module.training for module in model.modules()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    check_model(model, make_images(), LABELS, "it")
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert all(weight.grad is None and weight.requires_grad for weight in model.parameters())


def test_the_images_are_left_alone():
    """Looking at a model changes no pixel, and asks for no gradient of them."""
    x = make_images()
    before = x.clone()
    check_model(Answers(), x, LABELS, "it")
    assert torch.equal(x, before)
    assert not x.requires_grad


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-3e-8, 1.0 + 1e-7), (0.4, 0.6)])
def test_images_in_the_range_pass(bounds):
    """Images are numbers in [0, 1]; float rounding is not held against them."""
    check_images(torch.tensor(bounds).view(2, 1, 1, 1), "these")


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ((0.0, 1.001), r"these are in \[0, 1\.001\]: must be \[0, 1\], with normalization inside the model"),
        ((-0.01, 1.0), r"these are in \[-0\.01, 1\]"),
        ((-2.1, 2.6), r"these are in \[-2\.1, 2\.6\]"),
        ((0.0, 255.0), r"these are in \[0, 255\]"),
        ((0.0, np.nan), r"these are in \[nan, nan\]"),
        ((0.0, np.inf), r"these are in \[0, inf\]"),
    ],
)
def test_images_beyond_the_range_are_refused(bounds, message):
    """Normalized images, bytes and NaN are refused with the range that was seen."""
    with pytest.raises(DataError, match=message):
        check_images(torch.tensor(bounds).view(2, 1, 1, 1), "these")


def test_an_attempt_at_the_images_own_label_is_refused():
    """It would pass for a success at once: the first such image is named."""
    index, source = np.array([5, 9, 11]), np.array([0, 1, 2])
    check_attempts(Attempts(index, source, np.array([1, 0, 1])))
    check_attempts(Attempts(index, source, np.full(3, UNTARGETED)))
    with pytest.raises(
        DataError, match="image 9 has label 1 and is aimed at the same: must be another label, or -1"
    ):
        check_attempts(Attempts(index, source, np.array([1, 1, 2])))
