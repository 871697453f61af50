"""Factories of external models: a library's by name, a module's callable, or one in a file.

A network is built twice in its life: when it is added, perhaps with the weights that its factory brings, and
whenever its row is opened, without them: those are in its checkpoint by then, and no download may be needed.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jsdelta_db.compute.models.named_code import load_factory, users_code
from jsdelta_db.compute.models.zoo import A_MODULE, Factory, find_factory
from jsdelta_db.config.consent import find_file, is_in_file
from jsdelta_db.errors import ModelError, UnknownNameError, UsageError
from jsdelta_db.runtime.files import sha256_of_file

FORMS = "torchvision:resnet18, timm:resnet26, module:callable or path/to/nets.py:callable"
Arguments = dict[str, Any]


def name_for_rows(factory: str) -> tuple[str, str | None]:
    """Return a factory's name as rows hold it, and the sha256 of its file; None where it is in a module.

    A file is named by its whole path, so that the model can be opened from any folder.

    Raises:
        UsageError: there is no such file.
    """
    if not is_in_file(factory):
        return factory, None
    path, _, attribute = factory.rpartition(":")
    file = Path(path).expanduser()
    if not file.is_file():
        raise UsageError(f"--factory {factory!r} is not valid: there is no file {path}; must be {FORMS}")
    return f"{file.resolve()}:{attribute}", sha256_of_file(file)


def short_name(factory: str) -> str:
    """Return a factory's name for tables: of a file without its folder."""
    return factory.rpartition("/")[2] if is_in_file(factory) else factory


def build_network(recipe: Mapping[str, Any], offered: Mapping[str, int], *, brings_weights: bool) -> object:
    """Call a recipe's factory.

    Args:
        offered: num_classes, in_channels and image_size; it gets those that it takes, and the recipe's own
            arguments in any case.
        brings_weights: whether a library's network comes with the pretrained weights that the arguments name.

    Raises:
        UsageError: the factory cannot be found.
        ModelError: it failed, or its file is not the one that it was added with.
    """
    name, arguments = recipe["factory"], recipe.get("arguments", {})
    library = LIBRARIES.get(name.partition(":")[0]) if ":" in name else None
    if library is None:
        check_source(recipe)
        factory: Callable[..., object] = (
            load_factory(name, "--factory", A_MODULE, FORMS) if ":" in name else find_factory(name)
        )
        arguments = {**_accepted(factory, offered), **arguments}
    else:
        factory, needed = library(name.partition(":")[2], offered)
        arguments = {**needed, **_choose(arguments, offered, brings_weights=brings_weights)}
    with users_code(lambda reason: ModelError(f"--factory {name!r} could not build the model: {reason}")):
        return factory(**arguments)


def check_source(recipe: Mapping[str, Any]) -> None:
    """Check that a factory's file, if it has one, is still what the model was added with.

    Another forward() would fit the same weights, and compute something else.

    Raises:
        ModelError: it was edited.
    """
    added_with = recipe.get("source_sha256")
    if added_with is None:
        return
    file = find_file(recipe["factory"])
    if file is not None and sha256_of_file(file) != added_with:
        raise ModelError(
            f"{file} was edited since the model was added; restore what it held "
            f"(sha256 {added_with[:16]}…), or add the model under another name"
        )


def _torchvision(name: str, offered: Mapping[str, int]) -> tuple[Factory, Arguments]:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise UnknownNameError("network of torchvision", name, known)
    return models.get_model_builder(name), {}


def _timm(name: str, offered: Mapping[str, int]) -> tuple[Factory, Arguments]:
    try:
        timm = importlib.import_module("timm")
    except ModuleNotFoundError as error:
        raise UsageError(
            f"--factory 'timm:{name}' needs the package timm, which is not installed: pip install timm"
        ) from error
    return timm.create_model, {"model_name": name, "in_chans": offered["in_channels"]}


# library -> what to call for the name of a network, and with what beside num_classes
LIBRARIES = {"torchvision": _torchvision, "timm": _timm}
PRETRAINED = ("weights", "pretrained")  # what the libraries call the argument


def _choose(arguments: Arguments, offered: Mapping[str, int], *, brings_weights: bool) -> Arguments:
    """Return a library's arguments, with the number of classes unless pretrained weights have their own."""
    chosen = {key: value for key, value in arguments.items() if brings_weights or key not in PRETRAINED}
    if any(chosen.get(key) for key in PRETRAINED):
        return chosen
    return {"num_classes": offered["num_classes"], **chosen}


def _accepted(factory: Callable[..., object], offered: Mapping[str, int]) -> dict[str, int]:
    """Return the arguments that a factory takes; all of them if its signature is unknown."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return dict(offered)
    if any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters.values()):
        return dict(offered)
    return {name: value for name, value in offered.items() if name in parameters}
