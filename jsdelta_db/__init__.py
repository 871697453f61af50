"""jsdelta: tell adversarial bugs from non-robust features, and store the record.

A notebook works in a workspace::

    import jsdelta_db

    ws = jsdelta_db.open_workspace("digits")
    ws.train("digits")
    ws.attack(eps=[3 / 255, 8 / 255])
    ws.bugs(beta=0.1).to_pandas()

Importing this package loads neither torch nor MLflow; the heavy parts load where they are used. To read the
code, begin with ``pipeline/``: it walks one sample from the data set to its row.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsdelta_db.notebook.verbs import attack, score, train
    from jsdelta_db.notebook.workspace import Workspace
    from jsdelta_db.pipeline.verdict import Verdict, judge
    from jsdelta_db.runtime.progress import Progress

__all__ = ["Verdict", "Workspace", "attack", "judge", "open_workspace", "score", "train"]

# Loaded when asked for: judging needs torch, and even the version costs a command 50 ms.
LAZY = {
    "Verdict": "jsdelta_db.pipeline.verdict",
    "judge": "jsdelta_db.pipeline.verdict",
    "Workspace": "jsdelta_db.notebook.workspace",
    "attack": "jsdelta_db.notebook.verbs",
    "score": "jsdelta_db.notebook.verbs",
    "train": "jsdelta_db.notebook.verbs",
}


def open_workspace(
    folder: str | Path | None = None,
    *,
    data_dir: str | Path | None = None,
    progress: "Progress | None" = None,
    trust_code: bool = False,
) -> "Workspace":
    """Return a workspace: its methods train, attack, score and ask.

    Nothing is made until something is trained. In a ``with`` block the workspace stays open for work from one
    call to the next; outside, each call opens it.

    Example::

        ws = jsdelta_db.open_workspace("my-runs")

    Args:
        folder: of the store and MLflow's files; ``JSDELTA_HOME`` or the current one if None.
        data_dir: folder of the data sets; ``JSDELTA_DATA_DIR`` or ``data`` in the workspace if None.
        progress: gets bars and news; if None, news are warnings and there are no bars.
        trust_code: run code (``module:callable``) that models of the store name; what you name yourself runs
            without it.

    Raises:
        UsageError: the folder is not one.
    """
    from jsdelta_db.config.locations import as_path, resolve_workspace
    from jsdelta_db.notebook.workspace import Workspace
    from jsdelta_db.runtime.progress import Warnings

    location = resolve_workspace(as_path("folder", folder), as_path("data_dir", data_dir))
    return Workspace(location, progress or Warnings(), trusts_code=trust_code)


def __getattr__(name: str) -> Any:  # noqa: ANN401 a class, a function or a string
    """Load a name of the face when it is asked for."""
    if name in LAZY:
        from importlib import import_module

        return getattr(import_module(LAZY[name]), name)
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from jsdelta_db.runtime.version import installed_version

    return installed_version()


def __dir__() -> list[str]:
    """Name what a notebook calls."""
    return [*__all__, "__version__"]
