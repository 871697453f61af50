"""Option groups: options in a command's signature, a record in its body."""

import inspect
from dataclasses import dataclass
from typing import Annotated

import pytest
import typer

from cli.groups import Group, with_groups

Size = Annotated[int, typer.Option("--size", help="How large.")]
Colour = Annotated[str, typer.Option(help="Which colour.")]


@dataclass(frozen=True)
class Look:
    """Two options as a record."""

    size: Size = 1
    colour: Colour = "red"


def make_app(command):
    app = typer.Typer()
    app.command()(command)
    return app


def test_options_stand_where_their_group_does():
    """Typer sees the options in the group's place, and the command gets the record."""
    seen = []

    @with_groups
    def draw(first: str, *, look: Annotated[Look, Group(Look)], last: bool = False) -> None:
        seen.append((first, look, last))

    assert list(inspect.signature(draw).parameters) == ["first", "size", "colour", "last"]
    make_app(draw)(["a", "--size", "3", "--last"], standalone_mode=False)
    make_app(draw)(["b"], standalone_mode=False)
    assert seen == [("a", Look(3, "red"), True), ("b", Look(), False)]


def test_a_command_may_lack_options_of_a_group():
    """An option that is left out is unknown, and the record has its default."""
    seen = []

    @with_groups
    def draw(look: Annotated[Look, Group(Look, without=("size",))]) -> None:
        seen.append(look)

    make_app(draw)(["--colour", "blue"], standalone_mode=False)
    assert seen == [Look(1, "blue")]
    with pytest.raises(typer.TyperException, match="No such option"):
        make_app(draw)(["--size", "3"], standalone_mode=False)


def test_two_options_of_one_name_are_refused():
    """A group that repeats an option of the command is a mistake that shows at import."""
    with pytest.raises(ValueError, match="duplicate parameter name: 'size'"):

        @with_groups
        def draw(size: Size = 2, *, look: Annotated[Look, Group(Look)]) -> None: ...
