"""Commands: what every command of ``jsdelta`` has in common beyond its own options."""

import errno
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from jsdelta_db.runtime.escaping import is_text

Context: TypeAlias = Any  # of a module that Typer keeps to itself
T = TypeVar("T", bound=Callable[..., Any])


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse, after a look for options that are given twice."""
        _refuse_repeats(self, ctx, args)
        rest = super().parse_args(ctx, args)
        _refuse_impossible_values(ctx)
        return rest


class CommandGroup(TyperGroup):
    """A group of commands; its own options come before the command."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse, after a look for options that are given twice."""
        _refuse_repeats(self, ctx, args)
        rest = super().parse_args(ctx, args)
        _refuse_impossible_values(ctx)
        return rest


def _refuse_repeats(command: TyperCommand | TyperGroup, ctx: Context, args: list[str]) -> None:
    """Refuse an option that is given twice and takes one value: none replaces another without a word."""
    if ctx.resilient_parsing:  # of an unfinished line, for completion
        return
    _, _, given = command.make_parser(ctx).parse_args(args=list(args))
    counts = Counter(each for each in given if each.param_type_name == "option" and not each.multiple)
    for option, count in counts.items():
        if count > 1:
            names = "/".join((*option.opts, *option.secondary_opts))
            ctx.fail(f"{names} is given {count} times; give it once")


def _refuse_impossible_values(ctx: Context) -> None:
    """Refuse what no file can be called and what is no text, before a command trips over it."""
    for given in ctx.params.values():
        for value in given if isinstance(given, list) else [given]:
            if isinstance(value, Path):
                try:
                    value.lstat()
                except OSError as error:
                    if error.errno == errno.ENAMETOOLONG:
                        ctx.fail(f"{str(value)!r} is no path: {error.strerror}; choose a shorter one")
            elif isinstance(value, str) and not is_text(value):
                ctx.fail(f"{value!r} is no text: must be UTF-8")


class App(typer.Typer):
    """A group whose commands are of these classes."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401 Typer's own
        super().__init__(cls=CommandGroup, **settings)

    def command(self, name: str | None = None, **settings: Any) -> Callable[[T], T]:  # noqa: ANN401 as above
        """Register a command, as Typer does."""
        return super().command(name, **{"cls": Command, **settings})
