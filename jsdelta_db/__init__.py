"""jsdelta: tell adversarial bugs from non-robust features, and keep the record.

Importing this package loads neither torch nor MLflow; the heavy parts load where they are used.
Read ``pipeline/`` first: it walks one sample from the data set to its row.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsdelta_db.pipeline.verdict import Verdict, judge

__all__ = ["Verdict", "judge"]


def __getattr__(name: str) -> Any:  # noqa: ANN401 a string or a function
    """Load when asked: judging needs torch, and even the version costs a command 50 ms."""
    if name in __all__:
        from importlib import import_module

        return getattr(import_module("jsdelta_db.pipeline.verdict"), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jsdelta_db.runtime.version import installed_version

    return installed_version()
