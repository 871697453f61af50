"""Recipe files: TOML read and checked; an error names the key and its line."""

import re
import tomllib

from jsdelta_db.config.checks import NORMS
from jsdelta_db.config.eps import parse_eps
from jsdelta_db.config.names import check_name
from jsdelta_db.config.recipes.recipe import Recipe
from jsdelta_db.config.training import METHODS, TrainConfig
from jsdelta_db.errors import UsageError, one_of

# The types of each key: a whole number will do where a fraction is meant, but not the other way round.
TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("description", "dataset", "arch", "method", "schedule", "dtype", "device", "train_norm"), (str,)
    ),
    **dict.fromkeys(("members", "width", "epochs", "batch_size", "crop_padding", "train_steps"), (int,)),
    **dict.fromkeys(("learning_rate", "momentum", "weight_decay", "sam_rho"), (float, int)),
    **dict.fromkeys(("train_eps", "train_step_size"), (float, int, str)),
    **dict.fromkeys(("flip", "sam_adaptive", "tried"), (bool,)),
}
SIZES = ("train_eps", "train_step_size")
REQUIRED = ("dataset", "arch", "epochs")
MEMBERS = 5  # of an ensemble whose recipe gives no number


def parse_recipe(name: str, text: str) -> Recipe:
    """Return the recipe of a TOML text.

    Raises:
        UsageError: not TOML, an unknown or missing key, a wrong type, or a value out of range.
    """
    check_name("recipe name", name)
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"recipe {name!r} is not TOML: {error}; see jsdelta recipes show digits") from error
    for key, value in values.items():
        where = _where(name, key, text)
        _check_type(where, key, value)
        if key in SIZES:
            values[key] = _read_size(where, key, value, values.get("train_norm"))
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise UsageError(f"recipe {name!r} lacks {', '.join(missing)}; see jsdelta recipes show digits")
    description, members = values.pop("description", ""), values.pop("members", MEMBERS)
    tried = values.pop("tried", True)
    if members < 1:
        where = _where(name, "members", text)
        raise UsageError(f"{where}: members {members} is not valid: must be a whole number from 1")
    try:
        train = TrainConfig(**values)
        return Recipe(name, description, members, train, written=train, tried=tried)
    except UsageError as error:
        where = _where(name, error.key, text) if error.key in values else f"recipe {name!r}"
        raise UsageError(f"{where}: {error}", error.key) from error


def _check_type(where: str, key: str, value: object) -> None:
    """Refuse an unknown key, a value of another type, and an unknown method."""
    expected = TYPES.get(key)
    if expected is None:
        raise UsageError(f"{where}: unknown key {key!r}; see jsdelta recipes show digits")
    if type(value) not in expected:
        names = " or ".join(each.__name__ for each in expected)
        raise UsageError(f"{where}: {key} = {value!r} is a {type(value).__name__}: must be {names}")
    if key == "method" and value not in METHODS:
        raise UsageError(f"{where}: method {value!r} is not valid: must be {one_of(METHODS)}")


def _where(name: str, key: str, text: str) -> str:
    """Return the recipe, and the line that sets a key or opens a table of that name."""
    pattern = re.compile(rf"""\s*\[*\s*["']?{re.escape(key)}["']?\s*[=.\]]""")
    lines = enumerate(text.splitlines(), 1)
    return f"recipe {name!r}, line {next((number for number, line in lines if pattern.match(line)), 1)}"


def _read_size(where: str, key: str, value: float | str, norm: object) -> float:
    """Return a size in its norm's unit, as on the command line: for linf ``8`` is the same as ``"8/255"``."""
    known = norm if isinstance(norm, str) and norm in NORMS else "linf"
    return parse_eps(str(value), known, f"{where}: {key}")
