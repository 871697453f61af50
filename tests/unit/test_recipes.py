"""Recipes: what the package carries, how a flag overrides it, and names that do not exist."""

import dataclasses

import pytest

from jsdelta_db import recipes
from jsdelta_db.config import TrainConfig
from jsdelta_db.data import LOADERS
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.models import ARCHITECTURES
from jsdelta_db.recipes import DEFAULT_RECIPES, get_recipe, list_recipes, read_recipe_text, recipe_for
from jsdelta_db.training import METHODS


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
    assert recipe.train.dataset in LOADERS
    assert recipe.train.arch in ARCHITECTURES
    assert recipe.train.method in METHODS


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
    """A value that a recipe could not hold can not be given by a flag either."""
    with pytest.raises(UsageError, match="valid is"):
        get_recipe("digits").override(**changes)


@pytest.mark.parametrize("name", ["", "nonsense", "digits.toml", "../recipes/digits", "DIGITS"])
@pytest.mark.parametrize("read", [get_recipe, read_recipe_text])
def test_unknown_recipe_lists_what_exists(read, name):
    """An unknown recipe is a usage error that lists every recipe."""
    with pytest.raises(UnknownNameError) as caught:
        read(name)
    assert all(known in str(caught.value) for known in list_recipes())


def test_unknown_data_set_lists_what_exists():
    """An unknown data set is a usage error that lists every data set."""
    with pytest.raises(UnknownNameError, match="unknown dataset 'imagenet'; there is: digits, cifar10, svhn"):
        recipe_for("imagenet")


def test_unknown_key_is_refused(monkeypatch):
    """A misspelt key of a recipe is a usage error that names it."""
    monkeypatch.setattr(
        recipes, "read_recipe_text", lambda name: 'dataset = "digits"\narch = "cnn-small"\nepoch = 3\n'
    )
    with pytest.raises(UsageError, match="unknown key 'epoch'"):
        get_recipe("digits")


def test_defaults_fill_a_short_recipe(monkeypatch):
    """A recipe that says only what it must takes the rest from the defaults."""
    monkeypatch.setattr(
        recipes, "read_recipe_text", lambda name: 'dataset = "digits"\narch = "cnn-small"\nepochs = 3\n'
    )
    recipe = get_recipe("digits")
    assert TrainConfig("digits", "cnn-small", 3) == recipe.train
    assert recipe.members == 5
