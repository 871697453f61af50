"""The frozen copy that steps run on: folded, bfloat16 inside, and what is refused."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import choose_dtype, prepare
from jsdelta_db.compute.attacks.prepare import fold_batch_norm
from jsdelta_db.compute.models.networks import CifarResNet, Normalized, SmallCNN
from jsdelta_db.compute.models.torchvision_networks import small_image_resnet, small_vit
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.errors import UsageError
from jsdelta_db.runtime import devices

from .attack_cases import CPU, EPS, attack_digits, generator, make_cnn, make_images, stir_batch_norm

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
            folded = prepare(model, CPU).frozen
            np.testing.assert_allclose(model(x), folded(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_preparing_leaves_the_model_as_it_was(dtype):
    """Weights, dtypes, modes and requires_grad stay; the copy asks for no gradient of its own."""
    model = make_cnn()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    prepared = prepare(model, CPU, dtype)
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
    frozen = prepare(model, CPU, dtype).frozen
    x = make_images(4, (2, 5, 5))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), frozen(x), rtol=0, atol=0.02)
        assert torch.equal(frozen(x), frozen(x))


# ---- bfloat16 inside


@pytest.mark.parametrize("arch", FEW_BITS)
def test_bfloat16_logits_are_close_and_float32(arch):
    """Of a few bits less, in float32; and so is the gradient that reaches the image."""
    model = make_network(arch, stirred=False)
    x = torch.rand(4, 3, 16, 16, generator=generator())
    narrow, wide = (prepare(model, CPU, dtype).frozen for dtype in (torch.bfloat16, torch.float32))
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
    frozen = prepare(make_network(arch, stirred=False), CPU, torch.bfloat16).frozen
    layers = [module for module in frozen.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    seen = []
    for layer in (layers[0], layers[1], layers[-1]):
        layer.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = torch.rand(2, 3, 16, 16, generator=generator())
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


# ---- which dtype


def choose(requested, model, monkeypatch, *, has=True, pays=True):
    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: has)
    monkeypatch.setattr(devices, "bfloat16_pays", lambda device_type: pays)
    return choose_dtype(requested, model.eval(), CPU, make_images(2, (2, 5, 5)))


@pytest.mark.parametrize(
    ("requested", "pays", "dtype"),
    [
        ("float32", True, torch.float32),
        ("bfloat16", False, torch.bfloat16),
        ("auto", True, torch.bfloat16),
        ("auto", False, torch.float32),
    ],
)
def test_auto_is_what_pays(monkeypatch, requested, pays, dtype):
    """What is asked for is taken; ``auto`` is bfloat16 where it is faster."""
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(27, 3))
    assert dtype == choose(requested, model, monkeypatch, pays=pays)


@pytest.mark.parametrize(
    ("network", "reason"),
    [(Branching, "trace"), (Unweighted, "no convolution or linear layer"), (Solving, "")],
)
def test_models_that_bfloat16_does_not_fit(monkeypatch, network, reason):
    """Asked for, that is one line which says why; ``auto`` falls back to float32."""
    with pytest.raises(
        UsageError, match=f"--dtype 'bfloat16' does not fit .*{reason}.* must be float32"
    ) as caught:
        choose("bfloat16", network(), monkeypatch)
    assert len(str(caught.value).splitlines()) == 1
    assert torch.float32 == choose("auto", network(), monkeypatch)


def test_preparing_an_untraceable_model_in_bfloat16_is_refused():
    """No float32 copy passes for a bfloat16 one."""
    with pytest.raises(UsageError, match="trace"):
        prepare(Branching(), CPU, torch.bfloat16)


def test_a_machine_without_bfloat16_refuses_it(monkeypatch):
    """Asked for, that is one line which says what is valid; float32 is there everywhere."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(50, 3))
    with pytest.raises(UsageError, match=r"--dtype 'bfloat16' .* must be float32 or auto"):
        choose("bfloat16", model, monkeypatch, has=False)
    assert torch.float32 == choose("float32", model, monkeypatch, has=False)


@pytest.mark.parametrize("device_type", ["cpu", "cuda"])
def test_bfloat16_never_pays_where_it_is_missing(monkeypatch, device_type):
    """Nothing is timed there: ``auto`` is float32."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: False)
    devices.bfloat16_pays.cache_clear()
    try:
        assert torch.float32 == devices.resolve_dtype("auto", torch.device(device_type))
    finally:
        devices.bfloat16_pays.cache_clear()
