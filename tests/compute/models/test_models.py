"""Networks by name, what they must return, and their checkpoints."""

import hashlib
import io
import os
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute import data
from jsdelta_db.compute.data import Dataset, Split
from jsdelta_db.compute.models import ARCHITECTURES, build_model, load_checkpoint, predict, save_checkpoint
from jsdelta_db.compute.models.external import build_external
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.compute.models.networks import BasicBlock
from jsdelta_db.compute.models.zoo import check_outputs, find_factory
from jsdelta_db.errors import CheckpointError, ModelError, ModelOutputError, UnknownNameError, UsageError
from jsdelta_db.runtime.precision import keep_float32

CPU = torch.device("cpu")
SMALL_WIDTHS = {
    "cnn-small": 2, "resnet8": 2, "resnet20": 2, "resnet18": 4, "resnet50": 4, "vit-small": 8,
}  # fmt: skip


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small are slower on several threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", Path("unused"))


@pytest.fixture(scope="module")
def colour():
    """A data set of 3×32×32 bytes with seven classes."""
    images = torch.randint(
        0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    split = Split(images, torch.arange(8) % 7, np.arange(8))
    splits = dict.fromkeys(("train", "baseline", "attack"), split)
    return Dataset("colour", tuple("abcdefg"), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), splits)


class Linear(nn.Module):
    """The smallest network that takes what the factories are given."""

    def __init__(self, num_classes, in_channels, image_size):
        super().__init__()
        self.layer = nn.Linear(in_channels * image_size**2, num_classes)

    def forward(self, x):
        return self.layer(x.flatten(1))


@pytest.fixture
def user_module(monkeypatch):
    """A module of the user's, importable as ``mine``."""
    module = types.ModuleType("mine")
    module.Linear = Linear
    monkeypatch.setitem(sys.modules, "mine", module)
    return module


def _weights(model):
    return torch.cat([tensor.flatten().double() for tensor in model.state_dict().values()])


# ---- building


@pytest.mark.parametrize("dataset", ["digits", "colour"])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_builds(arch, dataset, request):
    """Every name gives finite float32 logits, one per class, and a gradient on the image."""
    dataset = request.getfixturevalue(dataset)
    model = build_model(arch, dataset, width=SMALL_WIDTHS[arch]).eval()
    x = dataset.splits["attack"].batch(slice(0, 3)).requires_grad_()
    logits = model(x)
    assert ((3, len(dataset.classes)), torch.float32) == (tuple(logits.shape), logits.dtype)
    assert torch.isfinite(logits).all()
    (gradient,) = torch.autograd.grad(logits[:, 0].sum() - logits[:, 1].sum(), x)
    assert gradient.abs().max() > 0


def test_built_in_names_are_those_of_the_specification():
    """The small CNN, ResNets 8/20/18/50 and a ViT are there."""
    assert {"cnn-small", "resnet8", "resnet20", "resnet18", "resnet50", "vit-small"} == set(ARCHITECTURES)


@pytest.mark.parametrize(
    ("arch", "parameters"), [("resnet20", 272_474), ("resnet18", 11_173_962), ("resnet50", 23_520_842)]
)
def test_resnets_have_the_published_size(arch, parameters):
    """CIFAR-10 ResNets have as many parameters as published (with projections and a 3×3 stem)."""
    with torch.device("meta"):
        network = ARCHITECTURES[arch](num_classes=10, in_channels=3, image_size=32)
    assert parameters == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_width_scales_every_architecture(arch, colour):
    """A wider network has more parameters."""
    width = SMALL_WIDTHS[arch]
    few, more = (build_model(arch, colour, width=k * width) for k in (1, 2))
    assert sum(p.numel() for p in few.parameters()) < sum(p.numel() for p in more.parameters())


def test_normalization_is_inside(colour):
    """The model takes images in [0, 1]: its logits are the network's on normalized images."""
    model = build_model("resnet8", colour, width=2).eval()
    x = colour.splits["attack"].batch(slice(0, 4))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (colour.mean, colour.std))
    assert torch.equal(model.network((x - mean) / std), model(x))
    assert not torch.equal(model.network(x), model(x))


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_the_seed_decides_the_weights(arch, colour):
    """The same seed gives the same weights, another seed others."""
    width = SMALL_WIDTHS[arch]
    first, again, other = (_weights(build_model(arch, colour, width=width, seed=seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_building_leaves_the_global_generator_alone(digits):
    """The global generator neither decides the weights nor is it moved."""
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = _weights(build_model("cnn-small", digits))
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    assert torch.equal(first, _weights(build_model("cnn-small", digits)))


def test_unknown_architecture_lists_what_exists(digits):
    """An unknown name is a usage error with every name and the way to one's own."""
    with pytest.raises(UnknownNameError) as caught:
        build_model("resnet9", digits)
    assert all(name in str(caught.value) for name in (*ARCHITECTURES, "module:callable", "resnet9"))


# ---- the user's own


def test_module_callable_is_built(digits, user_module):
    """``module:callable`` gives the user's network, with normalization put in front of it."""
    model = build_model("mine:Linear", digits, seed=5)
    assert isinstance(model.network, Linear)
    assert torch.equal(_weights(model), _weights(build_model("mine:Linear", digits, seed=5)))


def test_module_in_the_current_folder_is_found(digits, tmp_path, monkeypatch):
    """A module in the current folder is found without being installed."""
    source = "from tests.compute.models.test_models import Linear\n\n\ndef make(**given):\n    return Linear(**given)\n"
    (tmp_path / "jsdelta_test_networks.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert build_model("jsdelta_test_networks:make", digits) is not None


@pytest.mark.parametrize(
    "arch", ["no_such_module:Net", "mine:Missing", "mine:", ":Net", ".mine:Net", "mine:__name__"]
)
def test_what_can_not_be_imported_is_a_usage_error(arch, digits, user_module):
    """A module or callable that is not there is one line that names it and the form."""
    with pytest.raises(UsageError, match="must be module:callable") as caught:
        build_model(arch, digits)
    assert repr(arch) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("jsdelta_test_syntax", "x = = 1\n"),
        ("jsdelta_test_value", "raise ValueError('at import')\n"),
        ("jsdelta_test_name", "undefined_name\n"),
    ],
)
def test_a_module_that_fails_to_import_is_a_usage_error(name, source, digits, tmp_path, monkeypatch):
    """The user's module may fail in any way while it is imported."""
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="cannot be imported"):
        build_model(f"{name}:Net", digits)


def test_a_factory_that_fails_is_a_model_error(digits, user_module):
    """What goes wrong in the user's factory is told in one line."""

    def make(**given):
        raise KeyError("no such layer")

    user_module.make = make
    with pytest.raises(ModelError, match="'mine:make' could not be built: 'no such layer'"):
        build_model("mine:make", digits)


def test_a_factory_that_takes_no_width_says_so(digits, user_module):
    """A width that the factory does not take is one line."""
    with pytest.raises(ModelError, match="width"):
        build_model("mine:Linear", digits, width=3)


def test_a_factory_that_returns_no_module_is_refused(digits, user_module):
    """Only a torch.nn.Module is a network."""
    user_module.make = lambda **given: "a string"
    with pytest.raises(ModelError, match=r"returned str: must be a torch\.nn\.Module"):
        build_model("mine:make", digits)


class Broken(Linear):
    """A network whose outputs are not what they should be."""

    fault = None

    def forward(self, x):
        logits = super().forward(x)
        if self.fault == "nan":
            return logits * float("nan")
        if self.fault == "inf":
            return logits + float("inf")
        if self.fault == "one class too few":
            return logits[:, 1:]
        if self.fault == "one image":
            return logits[:1]
        if self.fault == "a tuple":
            return logits, logits
        if self.fault == "shape":
            return logits @ torch.ones(3, 3)
        raise self.fault


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("nan", "not finite"),
        ("inf", "not finite"),
        ("one class too few", r"returns \(2, 9\) .* must be \(2, 10\)"),
        ("one image", r"returns \(1, 10\)"),
        ("a tuple", "returns tuple"),
        ("shape", r"cannot take images of \(1, 8, 8\)"),
        (RuntimeError("of\nmany\nlines"), r"cannot take images of \(1, 8, 8\)"),
        (ValueError("three channels, please"), "three channels"),
        (AssertionError("wrong size"), "wrong size"),
        (TypeError("what is this"), "what is this"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_outputs_that_are_no_logits_are_refused(fault, told, digits, user_module, monkeypatch):
    """NaN, a wrong number of classes or a forward pass that fails: one line that says what was seen."""
    monkeypatch.setattr(Broken, "fault", fault)
    user_module.Broken = Broken
    with pytest.raises(ModelOutputError, match=told) as caught:
        build_model("mine:Broken", digits)
    assert len(str(caught.value).splitlines()) == 1
    assert "mine:Broken" in str(caught.value)


# ---- forward passes


@pytest.fixture
def cnn(digits):
    return build_model("cnn-small", digits, width=2)


@pytest.mark.parametrize("training", [True, False])
def test_predict_is_the_eval_mode_model(cnn, digits, training):
    """Logits of a whole split are those of eval mode in float32, whatever the mode, which is kept."""
    cnn.train(training)
    split = digits.splits["attack"]  # larger than two batches, and no multiple of one
    logits = predict(cnn, split, CPU)
    assert training == cnn.training
    assert ((600, 10), np.float32) == (logits.shape, logits.dtype)
    with torch.no_grad():
        expected = cnn.eval()(split.batch(slice(None))).numpy()
    np.testing.assert_allclose(expected, logits, rtol=0, atol=1e-6)


def test_predict_changes_nothing_in_the_model(cnn, digits):
    """Batch-norm statistics, weights and requires_grad stay."""
    before = _weights(cnn.train())
    predict(cnn, digits.splits["baseline"], CPU)
    assert torch.equal(before, _weights(cnn))
    assert all(parameter.requires_grad for parameter in cnn.parameters())


def test_predict_refuses_what_is_not_finite(cnn, digits):
    """A model whose weights went bad is refused, and its mode is kept."""
    cnn.network.classifier.weight.data[0, 0] = float("nan")
    with pytest.raises(ModelOutputError, match="not finite"):
        predict(cnn.train(), digits.splits["baseline"], CPU)
    assert cnn.training


def _forward_two(model, dataset):
    return forward(model, dataset.splits["attack"].batch(slice(0, 2)))


def _check_two(model, dataset):
    return check_outputs(model, dataset, "cnn")


@pytest.mark.parametrize("use", [_forward_two, _check_two])
def test_each_layer_gets_its_own_mode_back(cnn, digits, use):
    """A layer that was frozen in eval mode inside a model in train mode stays so."""
    cnn.train()
    cnn.network.features[1].eval()
    before = [module.training for module in cnn.modules()]
    use(cnn, digits)
    assert before == [module.training for module in cnn.modules()]


@pytest.mark.parametrize("use", [_forward_two, _check_two])
def test_mode_comes_back_after_a_failure(cnn, digits, use):
    """A forward pass that fails leaves the model in the mode it was in."""
    cnn.network.classifier = nn.Linear(3, 10)
    cnn.train()
    with pytest.raises((RuntimeError, ModelOutputError)):
        use(cnn, digits)
    assert cnn.training


# ---- checkpoints


def test_a_checkpoint_comes_back(cnn, digits, tmp_path):
    """What was saved is loaded into a model of other weights, in eval mode."""
    path = tmp_path / "runs" / "checkpoint.pt"
    sha256 = save_checkpoint(cnn, path)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    loaded = load_checkpoint(build_model("cnn-small", digits, width=2, seed=9), path, sha256)
    assert not loaded.training
    assert torch.equal(_weights(cnn), _weights(loaded))


def test_equal_weights_have_equal_hashes(cnn, digits, tmp_path):
    """The hash is of the weights: the same in another file, another for other weights."""
    first = save_checkpoint(cnn, tmp_path / "a.pt")
    again = save_checkpoint(build_model("cnn-small", digits, width=2), tmp_path / "b.pt")
    other = save_checkpoint(build_model("cnn-small", digits, width=2, seed=1), tmp_path / "a.pt")
    assert first == again
    assert first != other


def test_normalization_is_not_in_the_checkpoint(cnn):
    """Mean and deviation belong to the data set: the checkpoint holds the network alone."""
    assert all(name.startswith("network.") for name in cnn.state_dict())


def _load_bytes(model, path, content):
    """Load a file whose recorded hash is its own."""
    path.write_bytes(content)
    return load_checkpoint(model, path, hashlib.sha256(content).hexdigest())


@pytest.mark.parametrize("damage", ["missing", "a folder", "cut", "empty", "altered"])
def test_a_damaged_checkpoint_is_refused(cnn, tmp_path, damage):
    """A checkpoint that is missing, cut short or altered is one line that names it and what to do."""
    path = tmp_path / "checkpoint.pt"
    sha256 = save_checkpoint(cnn, path)
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        path.mkdir()
    elif damage != "missing":
        altered = bytes([*content[:-100], content[-100] ^ 1, *content[-99:]])
        path.write_bytes({"cut": content[:-1], "empty": b"", "altered": altered}[damage])
    before = _weights(cnn)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(cnn, path, sha256)
    assert str(path) in str(caught.value)
    assert "jsdelta train" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert torch.equal(before, _weights(cnn))


@pytest.mark.parametrize("arch", ["resnet8", "vit-small"])
def test_a_checkpoint_of_another_architecture_is_refused(cnn, digits, tmp_path, arch):
    """Weights that do not fit the architecture are refused in one line."""
    sha256 = save_checkpoint(cnn, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load_checkpoint(build_model(arch, digits, width=8), tmp_path / "checkpoint.pt", sha256)
    assert len(str(caught.value).splitlines()) == 1


def _saved(value):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("content", [b"", b"text", b"\x80\x04garbage", _saved([1, 2]), _saved(3), _saved({})])
def test_a_file_that_is_no_checkpoint_is_refused(cnn, tmp_path, content):
    """A file that was recorded but holds no weights is one line too."""
    with pytest.raises(CheckpointError) as caught:
        _load_bytes(cnn, tmp_path / "checkpoint.pt", content)
    assert len(str(caught.value).splitlines()) == 1


class Evil:
    """Pickles to a call of ``os.mkdir``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_code_in_a_checkpoint_is_not_run(cnn, tmp_path):
    """A checkpoint that contains pickled code is refused, and the code does not run."""
    marker = tmp_path / "ran"
    with pytest.raises(CheckpointError) as caught:
        _load_bytes(cnn, tmp_path / "checkpoint.pt", _saved({"weight": Evil(str(marker))}))
    assert not marker.exists()
    assert len(str(caught.value).splitlines()) == 1


def test_a_pickled_model_is_not_loaded(cnn, tmp_path):
    """A whole pickled model, which would run its module's code, is refused."""
    with pytest.raises(CheckpointError):
        _load_bytes(cnn, tmp_path / "checkpoint.pt", _saved(nn.Linear(2, 2)))


@pytest.mark.parametrize("channels", [4, 8])
def test_a_projection_of_few_channels_is_the_same_arithmetic(channels):
    """Narrow blocks take every other pixel themselves; what comes out is the strided convolution's."""
    torch.manual_seed(0)
    block = BasicBlock(channels, 2 * channels, 2)
    x = torch.randn(3, channels, 8, 8)
    kernel = block.shortcut[0].weight
    shown = []
    block.shortcut.register_forward_hook(lambda module, given, out: shown.append(out))
    block.eval()(x)
    expected = torch.nn.functional.conv2d(x, kernel, stride=2)
    torch.testing.assert_close(shown[0], block.shortcut[1](expected))


SWITCHING = """
import torch
from torch import nn

def switch_on():
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.benchmark = True

switch_on()

def make(num_classes, in_channels, image_size):
    switch_on()
    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * image_size**2, num_classes))

def broken(**options):
    switch_on()
    raise ValueError("no")
"""


def test_what_a_factory_switches_on_is_switched_off(digits, tmp_path, monkeypatch):
    """TF32 and bfloat16, when its module is imported, when it builds, and when it fails."""
    (tmp_path / "switching.py").write_text(SWITCHING)
    monkeypatch.syspath_prepend(tmp_path)
    keep_float32()
    kept = precision()
    find_factory("switching:make")
    assert precision() == kept
    build_model("switching:make", digits)
    assert precision() == kept
    build_external({"factory": "switching:make", "mean": (0.0,), "std": (1.0,)}, digits)
    assert precision() == kept
    with pytest.raises(ModelError, match="could not be built: no"):
        build_model("switching:broken", digits)
    assert precision() == kept == ("highest", False, False)


def precision():
    """Return what torch says of float32."""
    return (
        torch.get_float32_matmul_precision(),
        torch.backends.cudnn.allow_tf32,
        torch.backends.cudnn.benchmark,
    )
