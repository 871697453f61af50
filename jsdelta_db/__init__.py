"""jsdelta: tell adversarial bugs from non-robust features, and keep the record.

Importing this package loads neither torch nor MLflow; the heavy parts load where they are used.
Read ``pipeline.py`` first: it walks one sample from the data set to its row.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("jsdelta")
except PackageNotFoundError:  # running from a source tree that was never installed
    __version__ = "0+unknown"
