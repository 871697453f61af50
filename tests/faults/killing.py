"""A command in a process of its own that kills itself at the n-th thing it does to files or to a store.

Moments are counted and not timed, so that a seed finds the same one on every machine.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.attacks import PATIENCE

ON_FILES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree"}
REPOSITORY = Path(__file__).parents[2]


def run_and_kill(workspace: Path, *arguments: str, moment: int | None = None) -> int:
    """Run a command, kill it at a moment (None: never); return how many moments there were."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.killing", str(moment or 0), str(workspace.parent),
         "--workspace", str(workspace), *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=PATIENCE, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == (0 if moment is None else -signal.SIGKILL), done.stderr
    return int(done.stderr.rpartition("moments: ")[2]) if moment is None else moment


def _count(deadline: int, root: str) -> list[int]:
    """Count what this process does below a folder from now on, and kill it when there was enough."""
    seen = [0]

    def moment() -> None:
        seen[0] += 1
        if seen[0] == deadline:
            os.kill(os.getpid(), signal.SIGKILL)

    def hear(event: str, given: tuple[object, ...]) -> None:
        writes = event == "open" and isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        if (writes or event in ON_FILES) and str(given[0]).startswith(root):
            moment()

    from sqlalchemy import Engine, event

    for name in ("commit", "after_cursor_execute"):
        event.listen(Engine, name, lambda *given: moment())
    sys.addaudithook(hear)
    return seen


if __name__ == "__main__":
    counted = _count(int(sys.argv[1]), sys.argv[2])
    from cli.main import run

    code = run(sys.argv[3:])
    print(f"moments: {counted[0]}", file=sys.stderr)  # noqa: T201 to the parent
    sys.exit(code)
