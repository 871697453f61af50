"""jsdelta: tell adversarial bugs from non-robust features, and keep the record.

Importing this package loads neither torch nor MLflow; the heavy parts load where they are used.
Read ``pipeline.py`` first: it walks one sample from the data set to its row.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsdelta_db.verdicts import Verdict, judge

__all__ = ["Verdict", "judge"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 a string or a function
    """Load when asked: judging needs torch, and even the version costs a command 50 ms."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("jsdelta_db.verdicts"), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jsdelta")
    except PackageNotFoundError:  # running from a source tree that was never installed
        return "0+unknown"
