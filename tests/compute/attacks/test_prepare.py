"""The frozen copy that steps run on: folded, bfloat16 inside, and what is refused."""

import copy
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.attacks.prepare import fold_batch_norm
from jsdelta_db.compute.models.networks import CifarResNet, Normalized, SmallCNN
from jsdelta_db.compute.models.torchvision_networks import small_image_resnet, small_vit
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS

from .attack_cases import EPS, attack_digits, generator, make_cnn, make_images, stir_batch_norm

prepare_module = sys.modules[prepare.__module__]

NETWORKS = {
    "cnn-small": lambda: SmallCNN(10, 3, 16, 4),
    "resnet8": lambda: CifarResNet(1, 10, 3, 8),
    "resnet20": lambda: CifarResNet(3, 10, 3, 8),
    "resnet18": lambda: small_image_resnet(18, 10, 3, 16),
    "resnet50": lambda: small_image_resnet(50, 10, 3, 4),
    "vit-small": lambda: small_vit(10, 3, 16, 8),
}
FEW_BITS = [name for name in NETWORKS if name != "resnet50"]  # width 4 of 50 layers is all rounding


def make_network(arch, *, stirred):
    torch.manual_seed(0)
    model = Normalized(NETWORKS[arch](), (0.5,) * 3, (0.25,) * 3)
    return (stir_batch_norm(model) if stirred else model).eval()


class SharedConvolution(nn.Module):
    """One convolution used twice, each time before a batch norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn2(self.conv(self.bn1(self.conv(x)))).mean((2, 3))


class Branching(nn.Module):
    """A network that looks at its input, which cannot be traced."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn(x if x.sum() > 0 else -x).mean((2, 3))


class Solving(nn.Module):
    """A network with an operation that there is no bfloat16 form of."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.register_buffer("matrix", torch.eye(2))

    def forward(self, x):
        return torch.linalg.solve(self.matrix, self.conv(x).mean((2, 3)).T).T


class Unweighted(nn.Module):
    """A network without a layer."""

    def forward(self, x):
        return x.mean((2, 3))


# ---- folding


@pytest.mark.parametrize("arch", NETWORKS)
def test_folding_changes_logits_only_by_rounding(arch):
    """Batch norms vanish into convolutions, the function stays, and so does the original."""
    model = make_network(arch, stirred=True)
    x = torch.rand(3, 3, 16, 16, generator=generator())
    with torch.no_grad():
        before = model(x)
        folded = fold_batch_norm(copy.deepcopy(model))
        assert torch.equal(before, model(x))
        np.testing.assert_allclose(before, folded(x), rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


@pytest.mark.parametrize("network", [SharedConvolution, Branching])
def test_folding_keeps_the_function_of_any_network(network):
    """A network that cannot be folded as it is, such as one with shared weights, is still attacked itself."""
    torch.manual_seed(0)
    model = stir_batch_norm(network()).eval()
    for x in (torch.rand(3, 2, 5, 5), -torch.rand(3, 2, 5, 5)):
        with torch.no_grad():
            folded = prepare(model, x).frozen
            np.testing.assert_allclose(model(x), folded(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_preparing_leaves_the_model_as_it_was(dtype):
    """Weights, dtypes, modes and requires_grad stay; the copy asks for no gradient of its own."""
    model = make_cnn()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = prepare(model, make_images(4, (1, 8, 8)), dtype)
    assert prepared.model is model
    assert all(module.training for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())
    after = model.state_dict()
    assert all(before[name].dtype == after[name].dtype for name in before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(parameter.requires_grad for parameter in prepared.frozen.parameters())


class Dropping(nn.Module):
    """A network with both kinds of dropout."""

    def __init__(self):
        super().__init__()
        self.drop, self.linear = nn.Dropout(0.5), nn.Linear(50, 3)

    def forward(self, x):
        hidden = nn.functional.dropout(self.drop(x.flatten(1)), 0.5, self.training)
        return self.linear(hidden)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_copy_is_in_eval_mode(dtype):
    """Whatever mode the model is in, nothing is dropped from the copy."""
    model = Dropping().train()
    x = make_images(4, (2, 5, 5))
    frozen = prepare(model, x, dtype).frozen
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), frozen(x), rtol=0, atol=0.02)
        assert torch.equal(frozen(x), frozen(x))


# ---- bfloat16 inside


@pytest.mark.parametrize("arch", FEW_BITS)
def test_bfloat16_logits_are_close_and_float32(arch):
    """Of a few bits less, in float32; and so is the gradient that reaches the image."""
    model = make_network(arch, stirred=False)
    x = torch.rand(4, 3, 16, 16, generator=generator())
    narrow, wide = (prepare(model, x, dtype).frozen for dtype in (torch.bfloat16, torch.float32))
    gradients = []
    for frozen in (narrow, wide):
        image = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(frozen(image).log_softmax(1)[:, 3].sum(), image)
        gradients.append(gradient)
    with torch.no_grad():
        expected, logits = model(x), narrow(x)
    assert {torch.float32} == {logits.dtype, *(gradient.dtype for gradient in gradients)}
    scale = float(expected.abs().max())
    np.testing.assert_allclose(expected, logits, rtol=0, atol=0.05 * scale)
    assert float((expected - logits).abs().max()) > 1e-6 * scale  # it did run in bfloat16
    assert float(torch.cosine_similarity(*(gradient.flatten() for gradient in gradients), dim=0)) > 0.95


@pytest.mark.parametrize("arch", FEW_BITS)
def test_the_first_layer_stays_float32(arch):
    """The image, its normalization and the first layer keep every pixel level; what follows is bfloat16."""
    x = torch.rand(2, 3, 16, 16, generator=generator())
    frozen = prepare(make_network(arch, stirred=False), x, torch.bfloat16).frozen
    layers = [module for module in frozen.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    seen = []
    for layer in (layers[0], layers[1], layers[-1]):
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    frozen(x)
    assert torch.equal((x - 0.5) / 0.25, seen[0])
    assert [torch.float32] == list({parameter.dtype for parameter in layers[0].parameters()})
    assert [torch.bfloat16] == list({p.dtype for layer in layers[1:] for p in layer.parameters()})
    assert {torch.bfloat16} == {given.dtype for given in seen[1:]}


@pytest.mark.parametrize("norm", NORMS)
def test_attacks_in_bfloat16_have_the_same_successes(norm):
    """On all digits, at a weak and a strong ε, the success rate is that of float32 within 1 %."""
    rates = []
    for dtype in (torch.float32, torch.bfloat16):
        configs = [AttackConfig(eps=share * EPS[norm], norm=norm, steps=10) for share in (0.6, 1.0)]
        rates.append(np.mean([attack_digits(each, n=600, dtype=dtype)[0].success.mean() for each in configs]))
    assert 0.2 < rates[0] < 0.9
    assert rates[1] == pytest.approx(rates[0], abs=0.01)


# ---- which copy


class Small(nn.Module):
    """A small network; its twins below compute the same, and ask in Python how to."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 4, 3, padding=1)
        self.fc = nn.Linear(100, 3)

    def forward(self, x):
        return self.fc(torch.relu(self.conv((x - 0.5) / self.scale(x))).flatten(1))

    def scale(self, x):
        return 0.05


class AskingForItsType(Small):
    def scale(self, x):
        return 0.05 if isinstance(x, torch.Tensor) else 10.0


class AskingWhetherItIsATensor(Small):
    def scale(self, x):
        return 0.05 if torch.is_tensor(x) else 10.0


class AskingForAnAttribute(Small):
    def scale(self, x):
        return 10.0 if hasattr(x, "node") else 0.05


class Trying(Small):
    """What a tracer cannot do is taken for what the image is not."""

    def scale(self, x):
        try:
            return 0.05 if (x.sum() >= 0).item() else 1.0
        except Exception:  # noqa: BLE001 as users write it
            return 10.0


class LookingAtTheData(Small):
    """Its branch is one of the images', so that it cannot be traced."""

    def scale(self, x):
        return 0.05 if x.mean() >= 0 else 10.0


class AskingTheTracer(Small):
    def scale(self, x):
        return 10.0 if torch.fx._symbolic_trace.is_fx_tracing() else 0.05


def with_hook():
    """A network whose own hook doubles the contrast: a tracer begins below it."""
    network = Small()
    network.register_forward_pre_hook(lambda module, given: ((given[0] - 0.5) * 3 + 0.5,))
    return network


def with_output_hook():
    """A network whose own hook turns the logits round."""
    network = Small()
    network.register_forward_hook(lambda module, given, logits: logits.roll(1, 1))
    return network


def with_hook_on_batch_norm():
    """Folding replaces the batch norm, and with it what hangs on it."""
    network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3))
    network[1].register_forward_hook(lambda module, given, out: out.flip(1))
    return network


def hooked(wrap):
    """A convolution whose weight a hook computes, before a batch norm."""
    return nn.Sequential(
        wrap(nn.Conv2d(2, 4, 3)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


def with_weight_norm():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # old, and in use
        return hooked(nn.utils.weight_norm)


def with_spectral_norm():
    return hooked(nn.utils.spectral_norm)


def pruned():
    return hooked(lambda layer: prune.l1_unstructured(layer, "weight", 0.3))


TWINS = [
    AskingForItsType, AskingWhetherItIsATensor, AskingForAnAttribute, Trying, LookingAtTheData, AskingTheTracer,
    with_hook, with_output_hook, with_hook_on_batch_norm, with_weight_norm, with_spectral_norm, pruned,
]  # fmt: skip


def make(network):
    torch.manual_seed(0)
    return stir_batch_norm(network()).eval()


def gradient(network, x):
    """Return the gradient that an attack's step follows, and the logits beside it."""
    image = x.clone().requires_grad_()
    logits = network(image)
    return torch.autograd.grad(logits.log_softmax(1)[:, 1].sum(), image)[0], logits.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("network", TWINS)
def test_what_tracing_would_change_is_attacked_as_it_is(network, dtype):
    """Where the traced copy is another function, the plain one in float32 is taken, and the reason is said."""
    model = make(network)
    x = make_images(16, (2, 5, 5))
    prepared = prepare(model, x, dtype)
    assert (prepared.prepared_as, prepared.dtype) == ("plain", torch.float32)
    assert prepared.reason
    assert "\n" not in prepared.reason
    for expected, found in zip(gradient(model, x), gradient(prepared.frozen, x), strict=True):
        torch.testing.assert_close(expected, found)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("arch", ["cnn-small", "resnet8", "vit-small"])
def test_copies_that_compute_the_same_are_folded(arch, dtype):
    """A network of plain layers is folded, and has the arithmetic inside that was asked for."""
    model = make_network(arch, stirred=False)
    prepared = prepare(model, make_images(16, (3, 16, 16)), dtype)
    assert (prepared.prepared_as, prepared.dtype, prepared.reason) == ("folded", dtype, None)


@pytest.mark.parametrize(
    ("network", "reason"), [(Unweighted, "no convolution or linear layer"), (Solving, "not implemented")]
)
def test_models_that_bfloat16_does_not_fit_are_folded_in_float32(network, reason):
    """What only bfloat16 cannot do is done in float32, on a folded copy."""
    prepared = prepare(make(network), make_images(4, (2, 5, 5)), torch.bfloat16)
    assert (prepared.prepared_as, prepared.dtype) == ("folded", torch.float32)
    assert reason in prepared.reason


def test_gradients_that_bfloat16_loses_are_not_followed():
    """A network that lives on the last bits of its features has other gradients in bfloat16: float32 is taken."""

    class Cancelling(Small):
        def forward(self, x):
            features = torch.relu(self.conv(x)) + 1000.0
            return self.fc((features - 1000.0).pow(2).flatten(1))

    prepared = prepare(make(Cancelling), make_images(16, (2, 5, 5)), torch.bfloat16)
    assert (prepared.prepared_as, prepared.dtype) == ("folded", torch.float32)
    assert "other gradients, median cosine" in prepared.reason


@pytest.mark.parametrize("prepared_as", ["folded", "plain"])
def test_what_was_decided_before_is_not_decided_again(prepared_as, monkeypatch):
    """A resumed attack's copy is the one that its row names."""
    model = make_network("cnn-small", stirred=True)
    x = make_images(4, (3, 16, 16))
    monkeypatch.setattr(prepare_module, "find_difference", lambda *given: None)
    prepared = prepare(model, x, prepared_as=prepared_as)
    assert (prepared.prepared_as, prepared.reason) == (prepared_as, None)
    has_batch_norm = any(isinstance(module, nn.BatchNorm2d) for module in prepared.frozen.modules())
    assert has_batch_norm == (prepared_as == "plain")


def test_a_model_that_cannot_be_copied_is_attacked_itself():
    """Its mode and its weights' requires_grad stay as they are, and no step leaves a gradient in them."""

    class Uncopied(Small):
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    torch.manual_seed(0)
    model = nn.Sequential(Uncopied(), nn.Dropout(0.5)).train()
    x = make_images(8, (2, 5, 5))
    prepared = prepare(model, x)
    assert (prepared.prepared_as, prepared.reason) == ("plain", "it cannot be copied (no copies)")
    found = gradient(prepared.frozen, x)
    assert all(module.training for module in model.modules())
    assert all(weight.requires_grad and weight.grad is None for weight in model.parameters())
    for expected, part in zip(gradient(model.eval(), x), found, strict=True):
        torch.testing.assert_close(expected, part)
