"""Every error that jsdelta raises on purpose.

::

    JsdeltaError                    something failed; one line says what and what to do
    ├── UsageError                  a value the user typed is not valid
    │   ├── UnknownNameError        a name that does not exist (the message lists those that do)
    │   └── CodeError               code that a row names, and nobody agreed to run
    ├── NothingToDoError            the store holds nothing for the command to work on
    ├── InUseError                  a row to be deleted is needed, or in work
    ├── DataError                   a data set is missing, damaged or altered
    ├── ModelError                  a network or its checkpoint cannot be used
    │   ├── CheckpointError         the file is missing, cut short or altered
    │   └── ModelOutputError        its outputs are not finite logits of the right shape
    ├── AttackError                 somebody's attack failed, or returned no images of the kind it was given
    ├── TrainingError               a training run came to nothing (the loss is not finite)
    ├── OutOfMemoryError            the memory of the device does not suffice
    └── StoreError                  the database cannot be reached, read or written
        └── StoreNotReadyError      its schema is of another revision
            └── NoStoreError        there is no store yet

Messages are one line: what, the value got, what it must be, the next command. Only ``cli/main.py``
turns an error into stderr text and an exit code. Code tells errors apart by type or field, never by
reading their text.
"""

from collections.abc import Iterable

MOST_NAMES = 50  # listed in a message: a store may have thousands


class JsdeltaError(Exception):
    """Base of everything jsdelta raises on purpose."""


class UsageError(JsdeltaError):
    """A value that the user typed is not valid.

    Attributes:
        key: name of the configuration field at fault; "" where it is not a single field's.
    """

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__(message)
        self.key = key


class UnknownNameError(UsageError):
    """A name that does not exist; the message lists those that do, the first of many."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        names = list(known)
        more = f" and {len(names) - MOST_NAMES:,} more" if len(names) > MOST_NAMES else ""
        choices = ", ".join(names[:MOST_NAMES]) + more or "none"
        meant = _guess(name, names)
        super().__init__(f"unknown {what} {name!r}; there is: {choices}{meant}{'; ' + hint if hint else ''}")

    def __reduce__(self) -> tuple[type[UsageError], tuple[str, str]]:
        """Arrive from another process as a usage error with the same line."""
        return UsageError, (str(self), self.key)


def _guess(name: str, known: list[str]) -> str:
    """Return the question whether the name most like an unknown one is meant; "" where none is like it."""
    from difflib import get_close_matches  # only where something is wrong

    like = get_close_matches(name, known, n=1)
    return f"; did you mean {like[0]!r}?" if like else ""


class CodeError(UsageError):
    """Code that a row of the store names, and that the user did not agree to run."""


def one_of(choices: Iterable[str]) -> str:
    """Return choices as an error lists them: ``linf or l2``, ``target, margin, bug or feature``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def first_line(error: BaseException) -> str:
    """Return the first line of another library's error, for a message of ours; its type's name if empty."""
    return (str(error) or type(error).__name__).splitlines()[0]


class NothingToDoError(JsdeltaError):
    """The store holds nothing for the command to work on."""


class InUseError(JsdeltaError):
    """A row to be deleted is needed by another, or a live process works on it."""


class DataError(JsdeltaError):
    """A data set is missing, damaged or altered."""


class ModelError(JsdeltaError):
    """A network or its checkpoint cannot be used."""


class CheckpointError(ModelError):
    """A checkpoint file is missing, cut short or altered."""


class ModelOutputError(ModelError):
    """A network's outputs are not finite logits of the right shape."""


class AttackError(JsdeltaError):
    """Somebody's attack failed, or returned no images of the kind it was given."""


class TrainingError(JsdeltaError):
    """A training run came to nothing."""


class OutOfMemoryError(JsdeltaError):
    """The memory of the device does not suffice."""


class StoreError(JsdeltaError):
    """The database cannot be reached, read or written."""


class StoreNotReadyError(StoreError):
    """The store's schema is of another revision."""


class NoStoreError(StoreNotReadyError):
    """There is no store yet."""


# Of several pieces of work, such as members, these stop all; any other error stops its own alone.
STOPPING_ALL = (StoreError, DataError, OSError)
