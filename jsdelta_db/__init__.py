"""jsdelta: tell adversarial bugs from non-robust features, and keep the record.

Importing this package loads neither torch nor MLflow; the heavy parts load where they are used.
Read ``pipeline.py`` first: it walks one sample from the data set to its row.
"""


def __getattr__(name: str) -> str:
    """Look the version up when asked: importing importlib.metadata costs a command 50 ms."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jsdelta")
    except PackageNotFoundError:  # running from a source tree that was never installed
        return "0+unknown"
