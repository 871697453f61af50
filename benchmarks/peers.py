"""The other attack libraries, in an environment of their own: ``python benchmarks/peers.py`` says where."""

import importlib.util
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDER = HERE / ".peers"
REQUIREMENTS = HERE / "peers.txt"
SHARED = ("torch", "torchvision", "numpy", "scipy", "sklearn", "jsdelta_db")


@cache
def peers_python(folder: Path = FOLDER) -> Path:
    """Return the interpreter of the peers' environment; make the environment on first use (seconds)."""
    shared = _shared_paths()
    # Not sys.executable: one environment has several names for its interpreter.
    made_from = "\n".join([REQUIREMENTS.read_text("utf-8"), sys.prefix, sys.version, *shared])
    stamp = folder / "made-from.txt"
    if not stamp.is_file() or stamp.read_text("utf-8") != made_from:
        print(f"making the peers' environment in {folder}", file=sys.stderr)
        # Beside its place and then moved, so that nobody else ever meets half of it.
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f"{folder.name}-") as text:
            new = Path(text) / "environment"
            _make(new, shared)
            (new / stamp.name).write_text(made_from, encoding="utf-8")
            if folder.exists():
                folder.rename(Path(text) / "before")
            new.rename(folder)
    return _interpreter(folder)


def _make(folder: Path, shared: list[str]) -> None:
    pip = [str(_interpreter(folder)), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [*pip, "--no-deps", "-r", str(REQUIREMENTS)],
    ):
        subprocess.run(command, check=True, stdout=sys.stderr)
    packages = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    # Paths named in a .pth file come after the environment's own packages.
    (packages / "project.pth").write_text("\n".join(shared) + "\n", encoding="utf-8")


def _interpreter(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _shared_paths() -> list[str]:
    """Return the folders that the project's packages are imported from."""
    found = (importlib.util.find_spec(name) for name in SHARED)
    origins = [Path(spec.origin) for spec in found if spec is not None and spec.origin is not None]
    return list(dict.fromkeys(str(origin.parent.parent) for origin in origins))


if __name__ == "__main__":
    print(peers_python())
