"""Names: checked everywhere alike."""

import pytest

from jsdelta_db.config.names import LONGEST_NAME, check_name, check_text
from jsdelta_db.errors import UsageError

UNPRINTABLE = [
    "",
    " ",
    "a\nb",
    "a\tb",
    "\x1b[31m",
    "a\u202eb",
    "a\u200bb",
    "\udcff",
    "x" * (LONGEST_NAME + 1),
]


@pytest.mark.parametrize(
    "name", ["digits", "digits-sam-rho0.1", "mein Netz", "réseau_2", "face", "x" * 100, "v1+2"]
)
def test_names_that_people_give_are_taken(name):
    """Letters and digits of any script, spaces and a few signs make a name."""
    assert check_name("--name", name) == name


@pytest.mark.parametrize(
    "name",
    [
        *UNPRINTABLE,
        "first",
        "all",
        "newest",
        "7",
        "0123456789abcdef",
        "deadbeef",
        "a:b",
        "a,b",
        "a/b",
        "@a",
        " a",
        "-a",
    ],
)
def test_a_name_that_means_something_else_is_refused(name):
    """Words of options, numbers, uids and what a terminal obeys are no names: one line."""
    with pytest.raises(UsageError) as caught:
        check_name("--name", name)
    assert str(caught.value).startswith("--name ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("text", UNPRINTABLE)
def test_text_that_cannot_be_shown_is_refused(text):
    """What is stored and shown is printable and short."""
    with pytest.raises(UsageError, match="must be 1 to 100 printable characters"):
        check_text("--library", text)


def test_other_text_is_free():
    """A library's name is nobody's reference."""
    assert check_text("--library", "torchattacks==3.5.1: PGD, L∞") == "torchattacks==3.5.1: PGD, L∞"
