"""External models: outputs, sizes and weights as networks made elsewhere have them."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.models.equivalence import probe_images
from jsdelta_db.compute.models.external import (
    Adapted,
    ExternalModel,
    Resize,
    build_external,
    build_with_own_weights,
    check_declared_outputs,
)
from jsdelta_db.compute.models.memory_order import arrange
from jsdelta_db.errors import ModelError, ModelOutputError
from jsdelta_db.records import FOLDED
from tests.compute.models.images import noise

HERE = "tests.compute.models.test_external"
CPU = torch.device("cpu")
Named = namedtuple("Named", ["logits", "aux_logits"])


@dataclass
class Answer:
    """What a library's forward() returns."""

    loss: None
    logits: torch.Tensor


SHAPES = {
    "tensor": lambda logits: logits,
    "tuple": lambda logits: (logits, torch.zeros(1)),
    "list": lambda logits: [logits],
    "dict": lambda logits: {"features": torch.zeros(1), "logits": logits},
    "named tuple": lambda logits: Named(logits, None),
    "object": lambda logits: Answer(None, logits),
    "probs": lambda logits: logits.softmax(1),
    "log-probs": lambda logits: logits.log_softmax(1),
    "other dict": lambda logits: {"out": logits, "aux": logits},
    "text": lambda logits: "logits",
    "empty": lambda logits: (),
}


class Network(nn.Module):
    """A convolution with batch norm and a linear layer, whose answer has one of the shapes."""

    def __init__(self, shape, num_classes=10, in_channels=3):
        super().__init__()
        self.shape = shape
        self.features = nn.Sequential(nn.Conv2d(in_channels, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        """Return logits, somehow."""
        return SHAPES[self.shape](self.head(self.features(x).mean((2, 3))))


def make(shape="tensor", num_classes=10, in_channels=3):
    """The same weights, whatever the shape."""
    torch.manual_seed(0)
    return Network(shape, num_classes, in_channels)


def build(shape="tensor", dataset=None, **options):
    """Build the network as ``jsdelta models add`` does."""
    recipe = ExternalModel(f"{HERE}:make", arguments={"shape": shape}, **options).as_recipe()
    return build_external(recipe, dataset or noise())


def images():
    """A few images in [0, 1]."""
    return probe_images(noise().splits["baseline"], CPU)


# ---- outputs


@pytest.mark.parametrize("shape", ["tuple", "list", "dict", "named tuple", "object"])
def test_logits_are_found_in_what_a_forward_returns(shape):
    """The first of a tuple, or what is called logits: the same logits, and steps run on a folded copy as ever."""
    model, x = build(shape), images()
    assert torch.equal(model(x), build()(x))
    assert prepare(arrange(model, x), x).prepared_as == FOLDED


@pytest.mark.parametrize(
    ("shape", "seen"), [("other dict", "dict of out, aux"), ("text", "str"), ("empty", "tuple")]
)
def test_outputs_without_logits_are_named(shape, seen):
    """The line says what came instead."""
    with pytest.raises(ModelOutputError, match=rf"returns {seen} for two images; 'noise' has 10 classes"):
        build(shape)


@pytest.mark.parametrize("outputs", ["probs", "log-probs"])
def test_probabilities_become_logits(outputs):
    """Their softmax is what the network says, and their gradient is that of its log-probabilities."""
    model, logits = build(outputs, outputs=outputs), build()
    x = images().requires_grad_()
    assert check_declared_outputs(model, x.detach(), "mine") is None
    torch.testing.assert_close(model(x).softmax(1), logits(x).softmax(1))
    (found,) = torch.autograd.grad(model(x)[:, 3].sum(), x)
    (expected,) = torch.autograd.grad(logits(x).log_softmax(1)[:, 3].sum(), x)
    torch.testing.assert_close(found, expected)


def test_a_probability_of_zero_is_no_infinity():
    """What a softmax rounds to zero is a finite logit, far below the others."""
    model = Adapted(nn.Identity(), (0.0,), (1.0,), "probs", None)
    model.network = nn.Flatten()
    logits = model(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2))
    assert torch.isfinite(logits).all()
    assert logits.softmax(1).tolist() == [[pytest.approx(0.0, abs=1e-30), 1.0]]


@pytest.mark.parametrize(
    ("shape", "outputs", "message"),
    [
        ("probs", "logits", r"^model mine returns probabilities \(rows add up to 1.0000\): add --outputs probs"),
        ("tensor", "probs", r"^--outputs probs is not what model mine returns: values whose rows do not add up to 1; must be --outputs logits$"),
        ("tensor", "log-probs", "must be --outputs logits$"),
        ("log-probs", "probs", "must be --outputs log-probs$"),
        ("probs", "log-probs", "must be --outputs probs$"),
    ],
)  # fmt: skip
def test_outputs_that_look_like_something_else_are_refused(shape, outputs, message):
    """Probabilities taken for logits, or the other way round, would make every number wrong: the line names the option."""
    with pytest.raises(ModelOutputError, match=message):
        check_declared_outputs(build(shape, outputs=outputs), images(), "mine")


def test_log_probabilities_are_logits():
    """They are taken as they are, and a line says so."""
    line = check_declared_outputs(build("log-probs"), images(), "mine")
    assert line == (
        "model mine returns log-probabilities (exp of their rows adds up to 1.0000): taken as logits, which "
        "--outputs log-probs says, too"
    )
    assert check_declared_outputs(build(), images(), "mine") is None


# ---- size


@pytest.mark.parametrize("size", [7, 16, 32, 48])
def test_images_are_resized_as_torchvision_resizes_them(size):
    """Bilinear, antialiased where they get smaller; the gradient is that of the interpolation, too."""
    x = images()[:4, :, :, :24].clone().requires_grad_()
    resized = Resize(32, 24, size)(x)
    expected = F.interpolate(x, (size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(resized, expected)
    weights = torch.randn_like(expected)
    (found,) = torch.autograd.grad((resized * weights).sum(), x)
    torch.testing.assert_close(found, torch.autograd.grad((expected * weights).sum(), x)[0])


def test_a_network_gets_the_size_that_it_wants():
    """Its factory is told that size, and its layers see it; nothing of it lies in the weights."""
    dataset = noise()
    recipe = ExternalModel(f"{HERE}:sized", resize=12).as_recipe()
    model = build_external(recipe, dataset)
    assert model.network[1].in_features == 3 * 12 * 12
    assert set(model.state_dict()) == {"network.1.weight", "network.1.bias"}
    with pytest.raises(ModelOutputError, match=r"cannot take images of \(3, 32, 32\)"):
        build_external({**recipe, "arguments": {"image_size": 13}}, dataset)


def sized(num_classes, image_size):
    """One layer for images of one size."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * image_size**2, num_classes))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_run_on_a_folded_copy_of_a_resized_model(dtype):
    """torch.fx sees through the resizing and the outputs, and the image's gradient arrives."""
    x = images()
    model = arrange(build("dict", resize=48, mean=(0.4,), std=(0.2,)), x)
    made = prepare(model, x, dtype)
    assert (made.prepared_as, made.dtype, made.reason) == (FOLDED, dtype, None)


# ---- weights


def test_weights_of_the_factory_come_from_the_seed():
    """Drawn at random they are the seed's; the program's own generator goes on as if nothing was drawn."""
    recipe = ExternalModel(f"{HERE}:unseeded").as_recipe()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = (build_with_own_weights(recipe, noise(), seed).network.weight for seed in (0, 0, 1))
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def unseeded(num_classes):
    """Weights drawn from whatever state the generator has."""
    return Pooled(3, num_classes)


class Pooled(nn.Linear):
    """A linear layer on each channel's mean."""

    def forward(self, x):
        """Return logits."""
        return super().forward(x.mean((2, 3)))


class Remembering(Pooled):
    """A factor that is drawn when it is made, and is no part of its state."""

    def __init__(self):
        super().__init__(3, 10)
        self.factor = torch.randn(10)

    def forward(self, x):
        """Return logits."""
        return super().forward(x) * self.factor


def test_a_network_that_its_weights_do_not_make_is_refused():
    """What is not in the checkpoint would be another thing the next time: nothing is added."""
    recipe = ExternalModel(f"{HERE}:Remembering").as_recipe()
    with pytest.raises(
        ModelError, match=r"builds another network when its weights are in a checkpoint: (other|logits)"
    ):
        build_with_own_weights(recipe, noise(), seed=0)


def test_the_recipe_of_version_0_1_is_the_same():
    """What is left at its default is not in the recipe: a model that was added before is found again."""
    assert ExternalModel("nets:make", (0.5,), (0.25,)).as_recipe() == {
        "factory": "nets:make", "mean": [0.5], "std": [0.25],
    }  # fmt: skip
    assert set(ExternalModel("a:b", arguments={"c": 1}, outputs="probs", resize=8).as_recipe()) == {
        "factory", "mean", "std", "arguments", "outputs", "resize",
    }  # fmt: skip
