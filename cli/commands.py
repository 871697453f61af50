"""Commands: what every command of ``jsdelta`` has in common beyond its own options."""

from collections import Counter
from collections.abc import Callable
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

T = TypeVar("T", bound=Callable[..., Any])


class _RefusesRepeats:
    """An option either takes several values or is given once: none replaces another without a word."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:
        """Parse, after a look for options that are given twice.

        Raises:
            UsageError: Typer's own; one of them does not repeat.
        """
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))  # type: ignore[attr-defined]
        counts = Counter(each for each in given if each.param_type_name == "option" and not each.multiple)
        for option, count in counts.items():
            if count > 1 and not ctx.resilient_parsing:
                names = "/".join((*option.opts, *option.secondary_opts))
                ctx.fail(f"{names} is given {count} times; give it once")
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        return rest


class Command(_RefusesRepeats, TyperCommand):
    """A command."""


class CommandGroup(_RefusesRepeats, TyperGroup):
    """A group of commands; its own options come before the command."""


class App(typer.Typer):
    """A group whose commands are of these classes."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 Typer's own
        super().__init__(cls=CommandGroup, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[T], T]:  # noqa: ANN401 as above
        """Register a command, as Typer does."""
        return super().command(name, **{"cls": Command, **settings})
