"""Recipe catalogue: the recipes of the package by name, and the user's own by file."""

from importlib import resources
from pathlib import Path

from jsdelta_db.config.recipes.parsing import parse_recipe
from jsdelta_db.config.recipes.recipe import Recipe
from jsdelta_db.config.training import METHODS
from jsdelta_db.errors import UnknownNameError, UsageError

ANY, OWN = "any", "own"  # what the recipes for data sets of the user's name, and their name
# By data set, the recipe that a plain --dataset takes: the one of CPU size.
DEFAULT_RECIPES = {
    "digits": "digits",
    "cifar10": "cifar10-small",
    "svhn": "svhn-small",
    "mnist": "mnist-small",
    "fashion-mnist": "fashion-mnist-small",
    "kmnist": "kmnist-small",
    "cifar100": "cifar100-small",
}


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


def recipe_for(dataset: str | None, method: str | None = None) -> Recipe:
    """Return the recipe of CPU size for a data set and a method; the embedded digits if none is named.

    Args:
        dataset: a builtin one; ``any`` for one of the user's.

    Raises:
        UnknownNameError: no such data set or method.
    """
    known = {**DEFAULT_RECIPES, ANY: OWN}
    if dataset is not None and dataset not in known:
        raise UnknownNameError("dataset", dataset, DEFAULT_RECIPES)
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    base = known[dataset or "digits"]
    return get_recipe(base if method in (None, "standard") else f"{base}-{method}")


def get_recipe(name: str) -> Recipe:
    """Load a recipe by name, or the user's own from a file that ends in ``.toml``.

    Raises:
        UnknownNameError: no recipe of that name.
        UsageError: not a recipe: the message names the key and the line.
    """
    if not name.endswith(".toml"):
        return parse_recipe(name, read_recipe_text(name))
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise UsageError(
            f"--recipe {name!r} cannot be read ({reason}); give a file, or a name of jsdelta recipes list"
        ) from error
    return parse_recipe(Path(name).stem, text)
