"""Recipes: data set, architecture, method and hyper-parameters, as TOML that a user can read and copy."""

import tomllib
from dataclasses import dataclass, replace
from importlib import resources

from jsdelta_db.config import TRAIN_FIELDS, TrainConfig
from jsdelta_db.errors import UnknownNameError, UsageError

# By data set, the recipe that a plain --dataset takes: the one of CPU size.
DEFAULT_RECIPES = {"digits": "digits", "cifar10": "cifar10-small", "svhn": "svhn-small"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named training configuration and the usual size of an ensemble of it."""

    name: str
    description: str
    members: int
    train: TrainConfig

    def override(self, members: int | None = None, **changes: object) -> "Recipe":
        """Return the recipe with the given fields replaced; None leaves a field as it is."""
        given = {key: value for key, value in changes.items() if value is not None}
        return replace(
            self,
            members=self.members if members is None else members,
            train=replace(self.train, **given),  # type: ignore[arg-type] # checked when made
        )


def list_recipes() -> list[str]:
    """Return the names of the recipes in the package, sorted."""
    files = resources.files(__package__).iterdir()
    return sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml"))


def read_recipe_text(name: str) -> str:
    """Return a recipe's TOML as written, comments included.

    Raises:
        UnknownNameError: no recipe of that name.
    """
    if name not in list_recipes():
        raise UnknownNameError("recipe", name, list_recipes(), "see jsdelta recipes list")
    return resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8")


def recipe_for(dataset: str | None) -> Recipe:
    """Return the recipe of CPU size for a data set; the embedded digits if none is named.

    Raises:
        UnknownNameError: no such data set.
    """
    if dataset is not None and dataset not in DEFAULT_RECIPES:
        raise UnknownNameError("dataset", dataset, DEFAULT_RECIPES)
    return get_recipe(DEFAULT_RECIPES[dataset or "digits"])


def get_recipe(name: str) -> Recipe:
    """Load a recipe by name.

    Raises:
        UnknownNameError: no recipe of that name.
        UsageError: a key that recipes do not have, or a value out of range.
    """
    values = tomllib.loads(read_recipe_text(name))
    description, members = values.pop("description", ""), values.pop("members", 5)
    unknown = sorted(set(values) - TRAIN_FIELDS)
    if unknown:
        raise UsageError(
            f"recipe {name!r} has the unknown key {unknown[0]!r}; see jsdelta recipes show digits"
        )
    return Recipe(name, description, members, TrainConfig(**values))
