"""Recipes: what the package carries, how a flag overrides it, and names that do not exist."""

import dataclasses

import pytest

from jsdelta_db.compute.data import LOADERS
from jsdelta_db.compute.models import ARCHITECTURES
from jsdelta_db.compute.training import METHODS
from jsdelta_db.config import training
from jsdelta_db.config.attack import ROBUST_CHECKS
from jsdelta_db.config.recipes import (
    ANY,
    DEFAULT_RECIPES,
    catalogue,
    get_recipe,
    list_recipes,
    read_recipe_text,
    recipe_for,
)
from jsdelta_db.config.training import TrainConfig
from jsdelta_db.errors import UnknownNameError, UsageError


def test_the_promised_recipes_are_there():
    """The package carries the quickstart's recipe, the one of CPU size and the paper's."""
    assert {"digits", "cifar10-small", "cifar10-paper"} <= set(list_recipes())
    assert sorted(list_recipes()) == list_recipes()


@pytest.mark.parametrize("name", list_recipes())
def test_every_recipe_names_things_that_exist(name):
    """A recipe's data set, architecture and method exist, and it is described."""
    recipe = get_recipe(name)
    assert name == recipe.name
    assert recipe.description.endswith(".")
    assert recipe.members >= 2
    assert recipe.train.dataset in (*LOADERS, ANY)
    assert recipe.train.arch in ARCHITECTURES
    assert recipe.train.method in METHODS


UNTRIED = ("svhn", "mnist", "fashion-mnist", "kmnist", "cifar100", "cifar10-paper")


@pytest.mark.parametrize("name", list_recipes())
def test_a_recipe_that_never_ran_on_its_data_says_so(name):
    """It is written in the recipe, for whoever reads it; other people's recipes are taken as tried."""
    recipe = get_recipe(name)
    assert recipe.tried == (not name.startswith(UNTRIED))
    assert recipe.override(members=2).tried == recipe.tried
    assert ("\ntried = false " in read_recipe_text(name)) == (not recipe.tried)


def test_every_data_set_with_adversarial_training_is_attacked_by_its_radius():
    """The check of robust accuracy is at the radius that the small recipe trains at."""
    assert set(ROBUST_CHECKS) == set(LOADERS)
    for dataset, attack in ROBUST_CHECKS.items():
        assert attack.eps == recipe_for(dataset, "adversarial").train.train_eps


def test_paper_recipe_is_the_papers():
    """cifar10-paper is five ResNet-50 on CIFAR-10."""
    recipe = get_recipe("cifar10-paper")
    assert (recipe.train.dataset, recipe.train.arch, recipe.members) == ("cifar10", "resnet50", 5)


@pytest.mark.parametrize("name", list_recipes())
def test_text_is_shown_as_written(name):
    """A recipe is shown with its comments, so that a user can read and copy it."""
    text = read_recipe_text(name)
    assert text.startswith("description = ")
    assert "# " in text


def test_every_data_set_has_a_recipe_of_its_own():
    """A plain --dataset takes a recipe for that very data set; without one it is the digits."""
    assert set(LOADERS) == set(DEFAULT_RECIPES)
    for dataset in LOADERS:
        assert dataset == recipe_for(dataset).train.dataset
    assert recipe_for(None).name == "digits"


def test_names_that_are_checked_without_torch_are_those_that_torch_builds():
    """Architectures and methods are refused by lists; the lists are those of the code behind them."""
    assert tuple(ARCHITECTURES) == training.ARCHITECTURES
    assert tuple(METHODS) == training.METHODS


def test_override_replaces_only_what_is_given():
    """None leaves a field as it is; the recipe itself stays."""
    recipe = get_recipe("digits")
    changed = recipe.override(members=3, epochs=2, arch=None)
    assert changed.members == 3
    assert dataclasses.replace(recipe.train, epochs=2) == changed.train
    assert get_recipe("digits") == recipe
    assert recipe == recipe.override()


@pytest.mark.parametrize("changes", [{"epochs": 0}, {"dtype": "float16"}, {"device": "tpu"}])
def test_override_is_validated(changes):
    """A value that a recipe could not hold cannot be given by a flag either."""
    with pytest.raises(UsageError, match="must be "):
        get_recipe("digits").override(**changes)


@pytest.mark.parametrize("name", ["", "nonsense", "../recipes/digits", "DIGITS"])
@pytest.mark.parametrize("read", [get_recipe, read_recipe_text])
def test_unknown_recipe_lists_what_exists(read, name):
    """An unknown recipe is a usage error that lists every recipe."""
    with pytest.raises(UnknownNameError) as caught:
        read(name)
    assert all(known in str(caught.value) for known in list_recipes())


def test_unknown_data_set_lists_what_exists():
    """An unknown data set is a usage error that lists every data set."""
    names = "digits, cifar10, svhn, mnist, fashion-mnist, kmnist, cifar100"
    with pytest.raises(UnknownNameError, match=f"unknown dataset 'imagenet'; there is: {names}"):
        recipe_for("imagenet")


def test_unknown_key_is_refused(monkeypatch):
    """A misspelt key of a recipe is a usage error that names it."""
    monkeypatch.setattr(
        catalogue, "read_recipe_text", lambda name: 'dataset = "digits"\narch = "cnn-small"\nepoch = 3\n'
    )
    with pytest.raises(UsageError, match="unknown key 'epoch'"):
        get_recipe("digits")


def test_defaults_fill_a_short_recipe(monkeypatch):
    """A recipe that says only what it must takes the rest from the defaults."""
    monkeypatch.setattr(
        catalogue, "read_recipe_text", lambda name: 'dataset = "digits"\narch = "cnn-small"\nepochs = 3\n'
    )
    recipe = get_recipe("digits")
    assert TrainConfig("digits", "cnn-small", 3) == recipe.train
    assert recipe.members == 5


SHORT = 'dataset = "digits"\narch = "cnn-small"\nepochs = 3\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("epoch = 3", r"line 4: unknown key 'epoch'"),
        ("[train]", r"line 4: unknown key 'train'"),
        ('batch_size = "32"', r"line 4: batch_size = '32' is a str: must be int"),
        ("members = 2.5", r"line 4: members = 2\.5 is a float: must be int"),
        ("flip = 1", r"line 4: flip = 1 is a int: must be bool"),
        ("learning_rate = true", r"line 4: learning_rate = True is a bool: must be float or int"),
        ("members = 0", r"line 4: members 0 is not valid: must be a whole number from 1"),
        ("momentum = 1.0", r"line 4: momentum 1\.0 is not valid: must be a number in \[0, 1\)"),
        (
            'method = "sam"\nsam_rho = nan',
            r"line 5: sam_rho nan is not valid: must be a finite number above 0",
        ),
        ('method = "sam"', r"recipe 'mine': --method sam needs sam_rho"),
        ('train_eps = "8/255"', r"line 4: train_eps 0\.03.* belongs to --method adversarial"),
        ('train_eps = "eight"', r"line 4: train_eps 'eight' is not a perturbation size: must be a number"),
        ('train_eps = "8/0"', r"line 4: train_eps '8/0' is not a perturbation size"),
        (
            'method = "adversarial"\ntrain_eps = 0.0314',
            r"line 5: train_eps: 0\.0314/255 is less than a pixel level; for 8/255 write 8 or 8/255; to mean",
        ),
        (
            'train_step_size = "0.0078"',
            r"line 4: train_step_size: 0\.0078/255 .*; for 2/255 write 2 or 2/255",
        ),
        ("train_eps = 1e999", r"line 4: train_eps 'inf' is out of range"),
        ("epochs = 4", r"is not TOML: .*line 4"),
    ],
)
def test_a_recipe_file_that_is_wrong_names_key_and_line(line, message, tmp_path):
    """An unknown key, a wrong type or a bad value in the user's file is one line that says where."""
    path = tmp_path / "mine.toml"
    path.write_text(SHORT + line + "\n")
    with pytest.raises(UsageError, match=message) as caught:
        get_recipe(str(path))
    assert len(str(caught.value).splitlines()) == 1
    assert "mine" in str(caught.value)


def test_a_recipe_of_ones_own_is_read_from_its_file(tmp_path):
    """A file that ends in .toml is a recipe by its file's name; fractions are exact."""
    path = tmp_path / "mine.toml"
    path.write_text(
        SHORT + 'method = "adversarial"\ntrain_norm = "linf"\ntrain_eps = "8/255"\n'
        'train_steps = 1\ntrain_step_size = "10/255"\nmembers = 2\n'
    )
    recipe = get_recipe(str(path))
    assert (recipe.name, recipe.members) == ("mine", 2)
    assert (recipe.train.train_eps, recipe.train.train_step_size) == (8 / 255, 10 / 255)
    with pytest.raises(UsageError, match=r"cannot be read \(No such file or directory\)"):
        get_recipe(str(tmp_path / "other.toml"))


@pytest.mark.parametrize(
    ("norm", "written", "size"),
    [
        ("linf", "8", 8 / 255),
        ("linf", '"8"', 8 / 255),
        ("linf", '"0.5/255"', 0.5 / 255),
        ("l2", "0.25", 0.25),
    ],
)
def test_a_recipes_sizes_are_written_as_on_the_command_line(norm, written, size, tmp_path):
    """A bare number is in pixel levels for linf, as for --train-eps, and as written for l2."""
    path = tmp_path / "mine.toml"
    path.write_text(
        SHORT + f'method = "adversarial"\ntrain_norm = "{norm}"\ntrain_eps = {written}\n'
        f"train_steps = 1\ntrain_step_size = {written}\n"
    )
    train = get_recipe(str(path)).train
    assert (train.train_eps, train.train_step_size) == (size, size)


@pytest.mark.parametrize("dataset", DEFAULT_RECIPES)
@pytest.mark.parametrize("method", METHODS)
def test_each_data_set_has_a_small_recipe_of_each_method(dataset, method):
    """--method alone takes the data set's recipe of CPU size for it; the paper's size has one, where it is."""
    recipe = recipe_for(dataset, method)
    assert (recipe.train.dataset, recipe.train.method, recipe.members) == (dataset, method, 5)
    if dataset != "digits":
        assert recipe.name.startswith(f"{dataset}-small")
    if f"{dataset}-paper" in list_recipes():
        paper = get_recipe(recipe.name.replace("small", "paper"))
        assert (paper.train.arch, paper.train.method) == ("resnet50", method)


def test_unknown_method_lists_what_exists():
    """An unknown method is a usage error that lists every method."""
    with pytest.raises(
        UnknownNameError, match="unknown method 'magic'; there is: standard, adversarial, sam"
    ):
        recipe_for("digits", "magic")


def test_another_method_leaves_the_recipes_own_settings_behind():
    """A standard run of an adversarial recipe has no ε; what is given beside the method is taken."""
    recipe = get_recipe("digits-adversarial")
    assert recipe.override(method="standard").train == get_recipe("digits").train
    sam = recipe.override(method="sam", sam_rho=0.2).train
    assert (sam.sam_rho, sam.sam_adaptive, sam.train_eps) == (0.2, False, None)
    assert recipe.override(method="adversarial") == recipe


@pytest.mark.parametrize(
    ("archs", "widths", "members", "expected"),
    [
        (
            ["resnet8", "resnet20", "vit-small"],
            [16, 32],
            3,
            [("resnet8", 16), ("resnet20", 32), ("vit-small", 16)],
        ),
        (["resnet8"], [8, 16], 2, [("resnet8", 8), ("resnet8", 16)]),
        (["resnet8", "resnet20"], [8], 2, [("resnet8", 8), ("resnet20", 8)]),
        (["resnet8"], [4], 5, [("resnet8", 4)] * 5),
        ([], [], 5, [("cnn-small", None)] * 5),
    ],
)
def test_members_of_a_mixed_ensemble_cycle_through_what_is_given(archs, widths, members, expected):
    """Member i takes the i-th architecture and width; the longest list says how many there are."""
    recipe = get_recipe("digits").mix(archs, widths)
    given = [(config.arch, config.width) for config in map(recipe.of_member, range(recipe.members))]
    assert (recipe.members, given) == (members, expected)
    assert recipe.is_mixed == (len(set(expected)) > 1)
    assert recipe.mix(archs, widths).override(7).members == 7
