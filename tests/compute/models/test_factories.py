"""Factories of external models: libraries by name, and callables in files."""

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from jsdelta_db.compute.models.external import ExternalModel, build_external, build_with_own_weights
from jsdelta_db.compute.models.factories import check_source, name_for_rows, short_name
from jsdelta_db.errors import ModelError, UnknownNameError, UsageError
from tests.compute.models.images import noise

NETS = """
from torch import nn
from beside_the_networks import LABELS


def make(num_classes, hidden=8):
    assert num_classes == LABELS
    return nn.Sequential(nn.Flatten(), nn.Linear(48, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))


def broken():
    raise ValueError("no such layer\\nand more")


number = 3
"""


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """A file with networks, and a module beside it that it needs."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "beside_the_networks", raising=False)
    folder = tmp_path / "my code"
    folder.mkdir()
    (folder / "beside_the_networks.py").write_text("LABELS = 10\n")
    path = folder / "nets.py"
    path.write_text(NETS)
    return path


def build(factory, dataset=None, **options):
    """Build by a factory as ``jsdelta models add`` does."""
    name, source_sha256 = name_for_rows(str(factory))
    recipe = ExternalModel(name, source_sha256=source_sha256, **options).as_recipe()
    return build_external(recipe, dataset or noise(size=4))


# ---- libraries


def test_a_network_of_torchvision_by_name():
    """It is torchvision's, with the data set's number of classes and the arguments that were set."""
    model = build("torchvision:squeezenet1_1", noise(), arguments={"dropout": 0.25})
    assert type(model.network).__module__ == "torchvision.models.squeezenet"
    assert model.network.classifier[1].out_channels == 10
    assert model.network.classifier[0].p == 0.25


@pytest.mark.parametrize("argument", ["weights", "pretrained"])
@pytest.mark.filterwarnings("ignore:The parameter 'pretrained':UserWarning")
@pytest.mark.filterwarnings("ignore:Arguments other than a weight enum:UserWarning")
def test_pretrained_weights_are_loaded_once(argument, tmp_path, monkeypatch):
    """They come with the network when it is added; to open it again takes no download, whatever the row says."""
    from torchvision import models

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    file = tmp_path / "hub" / "checkpoints" / "squeezenet1_1-b8a52dc0.pth"  # where torchvision looks first
    file.parent.mkdir(parents=True)
    torch.manual_seed(1)
    there = models.squeezenet1_1()
    torch.save(there.state_dict(), file)
    value = "IMAGENET1K_V1" if argument == "weights" else True
    recipe = ExternalModel("torchvision:squeezenet1_1", arguments={argument: value}).as_recipe()
    dataset = noise(classes=1000, n=8)
    model = build_with_own_weights(recipe, dataset, seed=0)
    assert torch.equal(model.network.state_dict()["features.0.weight"], there.features[0].weight)
    file.unlink()
    build_external(recipe, dataset)
    torch.save(there.state_dict(), file)
    with pytest.raises(ModelError, match=r"returns \(2, 1000\) for two images; 'noise' has 10 classes"):
        build_with_own_weights(recipe, noise(), seed=0)


def test_what_torchvision_does_not_have_is_said():
    """An unknown name lists known ones; torchvision's own error is one line."""
    with pytest.raises(
        UnknownNameError, match=r"unknown network of torchvision 'resnet19'; there is: alexnet, "
    ):
        build("torchvision:resnet19")
    with pytest.raises(
        ModelError, match=r"could not build the model: .*unexpected keyword argument 'depht'"
    ) as raised:
        build("torchvision:resnet18", arguments={"depht": 3})
    assert "\n" not in str(raised.value)
    recipe = ExternalModel("torchvision:resnet18", arguments={"weights": "NO_SUCH"}).as_recipe()
    with pytest.raises(ModelError, match="could not build the model: 'NO_SUCH'"):
        build_external(recipe, noise(), brings_weights=True)


@pytest.fixture
def timm(monkeypatch):
    """A module that is called with what timm is called with; it remembers the calls."""
    module, calls = ModuleType("timm"), []

    def create_model(model_name, pretrained=False, num_classes=1000, in_chans=3, width=8):
        calls.append((model_name, pretrained, num_classes, in_chans, width))
        network = nn.Sequential(
            nn.Conv2d(in_chans, width, 3),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(width, num_classes),
        )
        for parameter in network.parameters() if pretrained else ():
            nn.init.constant_(parameter, 0.5)
        return network

    module.create_model, module.calls = create_model, calls
    monkeypatch.setitem(sys.modules, "timm", module)
    return module


def test_a_network_of_timm_by_name(timm):
    """timm makes it for the data set's classes and channels; pretrained weights come once, with their classes."""
    build("timm:resnet26", noise(channels=1), arguments={"width": 4})
    assert timm.calls == [("resnet26", False, 10, 1, 4)]
    timm.calls.clear()
    recipe = ExternalModel("timm:resnet26", arguments={"pretrained": True}).as_recipe()
    model = build_with_own_weights(recipe, noise(classes=1000, n=8), seed=0)
    assert timm.calls == [("resnet26", True, 1000, 3, 8), ("resnet26", False, 1000, 3, 8)]
    assert all(bool((value == 0.5).all()) for value in model.state_dict().values())


def test_without_timm_the_line_says_how_to_get_it(monkeypatch):
    """A package that is not there is named."""
    monkeypatch.setitem(sys.modules, "timm", None)  # as if it was not installed
    with pytest.raises(UsageError, match="needs the package timm, which is not installed: pip install timm"):
        build("timm:resnet26")


# ---- files


def test_a_callable_in_a_file(nets, monkeypatch):
    """It gets what it takes and what was set, sees the modules beside it, and is known by its whole path."""
    monkeypatch.chdir(nets.parent)
    model = build("nets.py:make", arguments={"hidden": 5})
    assert model.network[1].out_features == 5
    assert name_for_rows("nets.py:make")[0] == f"{nets.resolve()}:make"
    assert short_name(f"{nets}:make") == "nets.py:make"


def test_a_file_is_found_from_elsewhere_and_after_a_move(nets, tmp_path, monkeypatch):
    """From any folder by its path; once moved, from the folder that holds it now."""
    recipe = ExternalModel(name_for_rows(f"{nets}:make")[0]).as_recipe()
    monkeypatch.chdir(tmp_path)
    build_external(recipe, noise(size=4))
    moved = nets.parent.rename(tmp_path / "moved")
    with pytest.raises(
        UsageError, match=r"nets.py:make' cannot be imported .there is no such file.: must be torchvision"
    ):
        build_external(recipe, noise(size=4))
    monkeypatch.chdir(moved)
    build_external(recipe, noise(size=4))


def test_a_file_that_was_edited_is_refused(nets):
    """The same weights would fit another forward(): the line names the file and what to do."""
    name, source_sha256 = name_for_rows(f"{nets}:make")
    recipe = ExternalModel(name, source_sha256=source_sha256).as_recipe()
    build_external(recipe, noise(size=4))
    nets.write_text(NETS.replace("nn.ReLU()", "nn.Tanh()"))
    with pytest.raises(
        ModelError, match=r"nets.py was edited since the model was added; restore what it held"
    ):
        build_external(recipe, noise(size=4))
    nets.write_text(NETS)
    check_source(recipe)


def test_an_edited_file_is_loaded_anew(nets):
    """Two models of one file, before and after an edit, are two networks in one process."""
    assert isinstance(build(f"{nets}:make").network[2], nn.ReLU)
    nets.write_text(NETS.replace("nn.ReLU()", "nn.Tanh()"))
    assert isinstance(build(f"{nets}:make").network[2], nn.Tanh)


@pytest.mark.parametrize(
    ("attribute", "error", "message"),
    [
        ("missing", UsageError, r"cannot be imported .*no attribute 'missing'"),
        ("number", UsageError, "not callable"),
        ("broken", ModelError, "could not build the model: no such layer$"),
    ],
)
def test_a_callable_in_a_file_that_cannot_be_used(attribute, error, message, nets):
    """What is wrong is said in one line."""
    with pytest.raises(error, match=message):
        build(f"{nets}:{attribute}")


@pytest.mark.parametrize("content", ["raise SystemExit(0)", "import no_such_module_here", "def make(:"])
def test_a_file_that_cannot_be_loaded(content, tmp_path):
    """A file that leaves Python, lacks a module or is no Python is an error in one line, each time."""
    path = tmp_path / "nets.py"
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(UsageError, match=r"nets.py:make' cannot be imported \(") as raised:
            build(f"{path}:make")
        assert "\n" not in str(raised.value)


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    """What is typed must be there as it is typed, also if a file of that name lies in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NETS)
    with pytest.raises(
        UsageError, match=r"there is no file elsewhere/nets.py; must be torchvision:resnet18, "
    ):
        name_for_rows("elsewhere/nets.py:make")
