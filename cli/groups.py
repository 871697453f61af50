"""Option groups: several options of a command that reach it as one record.

A parameter of type ``Annotated[Record, Group(make)]`` stands for the options that ``make`` takes. Typer
builds commands from signatures, so :func:`with_groups` writes these options into the command's signature
where the parameter stands, and calls the command with the record.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps


@dataclass(frozen=True, slots=True)
class Group:
    """Mark of a parameter that is made from several options.

    Attributes:
        make: a dataclass or function; its parameters are the options, in their order.
        without: those that the command lacks; they have the defaults of ``make``.
    """

    make: Callable[..., object]
    without: tuple[str, ...] = ()

    def list_options(self) -> list[inspect.Parameter]:
        """Return the options as parameters of a signature."""
        options = inspect.signature(self.make).parameters.values()
        return [each for each in options if each.name not in self.without]


def with_groups(command: Callable[..., None]) -> Callable[..., None]:
    """Expand a command's groups into their options."""
    parameters: list[inspect.Parameter] = []
    groups: dict[str, Group] = {}
    for parameter in inspect.signature(command).parameters.values():
        group = _find_group(parameter)
        if group is not None:
            groups[parameter.name] = group
        parameters += [parameter] if group is None else group.list_options()

    @wraps(command)
    def expanded(**given: object) -> None:
        records = {
            name: group.make(**{option.name: given.pop(option.name) for option in group.list_options()})
            for name, group in groups.items()
        }
        command(**given, **records)

    # By keyword, as Typer calls it: an option with a default may come before one without.
    keywords = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    expanded.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    expanded.__annotations__ = {each.name: each.annotation for each in parameters}
    return expanded


def _find_group(parameter: inspect.Parameter) -> Group | None:
    marks = getattr(parameter.annotation, "__metadata__", ())
    return next((mark for mark in marks if isinstance(mark, Group)), None)
