"""Who imports whom: the arrows of the house, and what an import costs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def loaded_after(statement, tmp_path):
    """Return the top-level modules that a fresh interpreter has after a statement."""
    code = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "forbidden"),
    [
        ("import jsdelta_db", {"torch", "mlflow", "sqlalchemy", "numpy"}),
        (
            "import jsdelta_db.queries.bugs, jsdelta_db.maintenance.check",
            {"torch", "mlflow", "alembic", "matplotlib"},
        ),
        (
            "import jsdelta_db.plots.histogram, jsdelta_db.queries.statistics",
            {"torch", "mlflow", "matplotlib", "scipy"},
        ),
        ("import jsdelta_db.tracking", {"torch", "mlflow"}),
        (
            "import jsdelta_db.pipeline.train, jsdelta_db.pipeline.attack, jsdelta_db.pipeline.score",
            {"torch", "torchvision", "mlflow", "sklearn", "scipy", "matplotlib"},
        ),
    ],
)
def test_importing_loads_nothing_heavy(statement, forbidden, tmp_path):
    """What only reads and asks loads neither torch nor MLflow."""
    loaded = loaded_after(statement, tmp_path)
    assert "jsdelta_db" in loaded
    assert loaded & forbidden == set()


def test_the_arrows_hold():
    """Every contract of import-linter is kept; in a process of its own, for it switches others' loggers off."""
    command = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout
    assert "Nobody imports the command line KEPT" in done.stdout
