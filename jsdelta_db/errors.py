"""Every error that jsdelta raises on purpose.

::

    JsdeltaError                    something failed; one line says what and what to do
    ├── UsageError                  a value the user typed is not valid
    │   └── UnknownNameError        a name that does not exist (the message lists what does)
    ├── NothingToDoError            the store holds nothing that the command could work on
    ├── InUseError                  what is to be deleted is needed, or worked on
    ├── DataError                   a data set is missing or not what it should be
    ├── ModelError                  a network or its checkpoint cannot be used
    │   ├── CheckpointError         the file is missing, cut short or altered
    │   └── ModelOutputError        its outputs are not finite logits of the right shape
    ├── TrainingError               a training run came to nothing (the loss is not finite)
    └── StoreError                  the database cannot be reached, read or written
        └── StoreNotReadyError      no store yet, or a schema of another revision
            └── NoStoreError        no store yet

Messages are one line: what, the value got, what is valid, the next command. Only ``cli/main.py``
turns an error into stderr text and an exit code.
"""

from collections.abc import Iterable


class JsdeltaError(Exception):
    """Base of everything jsdelta raises on purpose."""


class UsageError(JsdeltaError):
    """A value that the user typed is not valid."""


class UnknownNameError(UsageError):
    """A name that does not exist; the message lists what does."""

    def __init__(self, what: str, name: str, known: Iterable[str], hint: str = "") -> None:
        choices = ", ".join(known) or "none"
        super().__init__(f"unknown {what} {name!r}; there is: {choices}{'; ' + hint if hint else ''}")


class NothingToDoError(JsdeltaError):
    """The store holds nothing that the command could work on."""


class InUseError(JsdeltaError):
    """What is to be deleted is needed by something else, or a live process works on it."""


class DataError(JsdeltaError):
    """A data set is missing or is not what it should be."""


class ModelError(JsdeltaError):
    """A network or its checkpoint cannot be used."""


class CheckpointError(ModelError):
    """A checkpoint file is missing, cut short or altered."""


class ModelOutputError(ModelError):
    """A network's outputs are not finite logits of the right shape."""


class TrainingError(JsdeltaError):
    """A training run came to nothing."""


class StoreError(JsdeltaError):
    """The database cannot be reached, read or written."""


class StoreNotReadyError(StoreError):
    """There is no store yet, or its schema is of another revision."""


class NoStoreError(StoreNotReadyError):
    """There is no store yet."""
