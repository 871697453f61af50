"""Adapters: what they hand to other libraries' classes. The real ones are in the long tier (``test_peers.py``)."""

import sys

import pytest
import torch

from jsdelta_db.compute.attacks.callables import find_attack
from jsdelta_db.compute.attacks.callables.counting import CountedModel
from jsdelta_db.errors import UnknownNameError, UsageError

TORCHATTACKS = """
calls = []


class PGD:
    supported_mode = ["default", "targeted"]

    def __init__(self, model, eps=8 / 255, alpha=2 / 255, steps=10):
        calls.append({"eps": eps, "alpha": alpha, "steps": steps})

    def set_mode_targeted_by_label(self, quiet=False):
        calls.append("targeted")

    def __call__(self, x, labels):
        calls.append(labels.tolist())
        return x


class APGDT(PGD):
    supported_mode = ["default"]

    def __init__(self, model, norm="Linf", eps=8 / 255, seed=None, n_classes=10):
        calls.append({"norm": norm, "eps": eps, "seed": seed, "n_classes": n_classes})


class AutoAttack(APGDT):
    def __init__(self, model, norm="Linf", version="standard", n_classes=10):
        calls.append({"norm": norm, "version": version, "n_classes": n_classes})
"""
FOOLBOX = """
calls = []


class PyTorchModel:
    def __init__(self, model, bounds, device):
        calls.append(bounds)


class criteria:
    @staticmethod
    def Misclassification(labels):
        return "away from", labels.tolist()

    @staticmethod
    def TargetedMisclassification(labels):
        return "towards", labels.tolist()
"""
FOOLBOX_ATTACKS = """
import foolbox


class LinfPGD:
    def __init__(self, steps=40):
        foolbox.calls.append(steps)

    def __call__(self, model, x, criterion, epsilons):
        foolbox.calls.append((criterion, epsilons))
        return x + 9, x, True
"""
ART_ATTACKS = """
calls = []


class ProjectedGradientDescent:
    def __init__(self, estimator, norm=0, eps=0.3, eps_step=0.1, targeted=False, batch_size=32, verbose=True):
        calls.append({"norm": norm, "eps": eps, "eps_step": eps_step, "targeted": targeted,
                      "batch_size": batch_size, "verbose": verbose})

    def generate(self, x, y):
        calls.append(y.argmax(1).tolist())
        return x


class DeepFool:
    def __init__(self, classifier):
        pass
"""
ART_ESTIMATORS = """
class PyTorchClassifier:
    def __init__(self, model, loss, input_shape, nb_classes, clip_values, device_type):
        assert (input_shape, nb_classes, clip_values, device_type) == ((1, 8, 8), 5, (0.0, 1.0), "cpu")
"""
FILES = {
    "torchattacks/__init__.py": TORCHATTACKS,
    "foolbox/__init__.py": FOOLBOX,
    "foolbox/attacks.py": FOOLBOX_ATTACKS,
    "art/__init__.py": "",
    "art/attacks/__init__.py": "",
    "art/attacks/evasion.py": ART_ATTACKS,
    "art/estimators/__init__.py": "",
    "art/estimators/classification.py": ART_ESTIMATORS,
}
PACKAGES = ("torchattacks", "foolbox", "adversarial_robustness_toolbox")
LABELS, TARGETS = torch.tensor([0, 1]), torch.tensor([3, 4])


@pytest.fixture(autouse=True)
def _libraries(tmp_path, monkeypatch):
    """Packages of these names, that note how they are called."""
    for name, source in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    for name in PACKAGES:
        (tmp_path / f"{name}-9.1.dist-info").mkdir()
        (tmp_path / f"{name}-9.1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 9.1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [
        name for name in sys.modules if name.partition(".")[0] in ("torchattacks", "foolbox", "art")
    ]:
        del sys.modules[name]


def call(name, *, target=TARGETS, norm="linf", **arguments):
    """Call a library's attack as a chunk does; return what came back."""
    by = find_attack(name, arguments)
    model = CountedModel(torch.nn.Flatten(), 5)
    return by.fn(model, torch.zeros(2, 1, 8, 8), LABELS, target, 0.1, norm, **by.arguments)


def test_the_version_is_the_librarys():
    """An update of the library is another attack; AutoAttack is torchattacks'."""
    assert find_attack("torchattacks:PGD", {"steps": 3}).canonical() == {
        "name": "torchattacks:PGD", "version": "torchattacks 9.1", "arguments": {"steps": 3},
        "accept_eps": False,
    }  # fmt: skip
    assert find_attack("autoattack:standard", {}).version == "torchattacks 9.1"
    assert find_attack("art:DeepFool", {}).version == "adversarial-robustness-toolbox 9.1"


def test_torchattacks_is_given_eps_and_targets():
    """ε comes from us, the rest from --set or the library; labels in the place that its mode wants."""
    call("torchattacks:PGD", steps=3)
    call("torchattacks:PGD", target=None, eps=0.2)
    import torchattacks

    assert torchattacks.calls == [
        {"eps": 0.1, "alpha": 2 / 255, "steps": 3}, "targeted", [3, 4],
        {"eps": 0.2, "alpha": 2 / 255, "steps": 10}, [0, 1],
    ]  # fmt: skip


def test_torchattacks_is_given_norm_classes_and_seed():
    """What depends on the data set or would come from the clock is filled in: the seed is the chunk's."""
    for _ in range(2):
        torch.manual_seed(4)
        call("torchattacks:APGDT", target=None, norm="l2")
    call("autoattack:plus", target=None)
    import torchattacks

    first, _, again, _, auto, _ = torchattacks.calls
    assert first == again
    assert first == {"norm": "L2", "eps": 0.1, "seed": first["seed"], "n_classes": 5}
    assert first["seed"] is not None
    assert auto == {"norm": "Linf", "version": "plus", "n_classes": 5}


@pytest.mark.parametrize("name", ["torchattacks:APGDT", "autoattack:standard", "art:DeepFool"])
def test_an_attack_without_targets_says_so(name):
    """A true label given as a target would pass silently: such an attack is refused towards targets."""
    with pytest.raises(UsageError, match="--untargeted"):
        call(name)


def test_foolbox_is_given_a_criterion():
    """Targets become its criterion; of what it returns the images that it clipped to ε count."""
    assert not call("foolbox:LinfPGD", steps=3).any()
    call("foolbox:LinfPGD", target=None)
    import foolbox

    assert foolbox.calls == [
        3, (0.0, 1.0), (("towards", [3, 4]), 0.1),
        40, (0.0, 1.0), (("away from", [0, 1]), 0.1),
    ]  # fmt: skip


def test_art_is_given_an_estimator():
    """Targets are one-hot, and a step that nobody gave is one that it takes."""
    call("art:ProjectedGradientDescent", eps_step=0.01)
    call("art:ProjectedGradientDescent", target=None, norm="l2")
    from art.attacks import evasion

    first, towards, second, away = evasion.calls
    assert first == {
        "norm": float("inf"), "eps": 0.1, "eps_step": 0.01, "targeted": True, "batch_size": 2, "verbose": False
    }  # fmt: skip
    assert (second["norm"], second["eps_step"], second["targeted"]) == (2, 0.025, False)
    assert (towards, away) == ([3, 4], [0, 1])


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("torchattacks:Gone", "PGD"),
        ("foolbox:Gone", "LinfPGD"),
        ("art:Gone", "Deep"),
        ("autoattack:x", "rand"),
    ],
)
def test_an_unknown_attack_lists_the_known_ones(name, known):
    """The library's own names are shown."""
    with pytest.raises(UnknownNameError, match=known):
        find_attack(name, {})
