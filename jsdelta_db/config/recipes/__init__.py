"""Recipes: data set, architecture, method and hyper-parameters, as TOML that a user can read and copy."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path

from jsdelta_db.config.training import METHOD_FIELDS, TrainConfig
from jsdelta_db.errors import UnknownNameError, UsageError

# By data set, the recipe that a plain --dataset takes: the one of CPU size.
METHODS = ("standard", "adversarial", "sam")
DEFAULT_RECIPES = {"digits": "digits", "cifar10": "cifar10-small", "svhn": "svhn-small"}
# What each key may be: a whole number will do where a fraction is meant, but not the other way round.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("description", "dataset", "arch", "method", "schedule", "dtype", "device", "train_norm"), (str,)
    ),
    **dict.fromkeys(("members", "width", "epochs", "batch_size", "crop_padding", "train_steps"), (int,)),
    **dict.fromkeys(("learning_rate", "momentum", "weight_decay", "sam_rho"), (float, int)),
    **dict.fromkeys(("train_eps", "train_step_size"), (float, int, str)),
    **dict.fromkeys(("flip", "sam_adaptive"), (bool,)),
}
SIZES = ("train_eps", "train_step_size")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named training configuration and the usual size of an ensemble of it.

    Attributes:
        archs, widths: of a mixed ensemble: member i takes the i-th of each, cycling; empty for one kind.
    """

    name: str
    description: str
    members: int
    train: TrainConfig
    archs: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()

    def override(self, members: int | None = None, **changes: object) -> "Recipe":
        """Return the recipe with the given fields replaced; None leaves a field as it is.

        With another method go the settings that belonged to the recipe's own.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        if given.get("method", self.train.method) != self.train.method:
            given = {**dict.fromkeys(METHOD_FIELDS.get(self.train.method, ())), **given}
        return replace(
            self,
            members=self.members if members is None else members,
            train=replace(self.train, **given),  # type: ignore[arg-type] # checked when made
        )

    def mix(self, archs: Sequence[str] = (), widths: Sequence[int] = ()) -> "Recipe":
        """Return the recipe of an ensemble whose members differ; one value alone is for all of them."""
        whole = self.override(
            arch=archs[0] if len(archs) == 1 else None, width=widths[0] if len(widths) == 1 else None
        )
        longest = max(len(archs), len(widths))
        return replace(
            whole,
            members=longest if longest > 1 else self.members,
            archs=tuple(archs) if len(archs) > 1 else (),
            widths=tuple(widths) if len(widths) > 1 else (),
        )

    def of_member(self, position: int) -> TrainConfig:
        """Return the configuration of the member at a position, from 0."""
        arch = self.archs[position % len(self.archs)] if self.archs else self.train.arch
        width = self.widths[position % len(self.widths)] if self.widths else self.train.width
        return replace(self.train, arch=arch, width=width)

    @property
    def is_mixed(self) -> bool:
        """Whether members differ in more than their seeds."""
        return len({self.of_member(position) for position in range(self.members)}) > 1


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

    Raises:
        UnknownNameError: no such data set or method.
    """
    if dataset is not None and dataset not in DEFAULT_RECIPES:
        raise UnknownNameError("dataset", dataset, DEFAULT_RECIPES)
    if method is not None and method not in METHODS:
        raise UnknownNameError("method", method, METHODS)
    base = DEFAULT_RECIPES[dataset or "digits"]
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


def parse_recipe(name: str, text: str) -> Recipe:
    """Read a recipe's TOML.

    Raises:
        UsageError: not TOML, an unknown or missing key, a wrong type, or a value out of range.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"recipe {name!r} is not TOML: {error}; see jsdelta recipes show digits") from error
    for key, value in values.items():
        expected = TYPES.get(key)
        where = f"recipe {name!r}, line {_line_of(key, text)}"
        if expected is None:
            raise UsageError(f"{where}: unknown key {key!r}; see jsdelta recipes show digits")
        if type(value) not in expected:
            names = " or ".join(each.__name__ for each in expected)
            raise UsageError(f"{where}: {key} = {value!r} is a {type(value).__name__}: must be {names}")
        if key == "method" and value not in METHODS:
            raise UsageError(f"{where}: method {value!r} is not valid: must be {', '.join(METHODS)}")
        if key in SIZES and isinstance(value, str):
            values[key] = _fraction(where, key, value)
    missing = [key for key in ("dataset", "arch", "epochs") if key not in values]
    if missing:
        raise UsageError(f"recipe {name!r} lacks {', '.join(missing)}; see jsdelta recipes show digits")
    description, members = values.pop("description", ""), values.pop("members", 5)
    if members < 1:
        raise UsageError(
            f"recipe {name!r}, line {_line_of('members', text)}: members {members} is not valid; "
            "must be a whole number from 1"
        )
    try:
        return Recipe(name, description, members, TrainConfig(**values))
    except UsageError as error:
        key = str(error).partition(" ")[0]
        line = f", line {_line_of(key, text)}" if key in values else ""
        raise UsageError(f"recipe {name!r}{line}: {error}") from error


def _line_of(key: str, text: str) -> int:
    """Return the line that sets a key, or opens a table of that name."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    return next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), 1)


def _fraction(where: str, key: str, text: str) -> float:
    """Read ``8/255``: ε is a fraction of pixel levels, which a decimal number does not hit."""
    numerator, slash, divisor = text.partition("/")
    try:
        return float(numerator) / float(divisor) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{where}: {key} = {text!r} is no size: must be a number or 8/255") from None
