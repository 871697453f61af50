"""The wheel, the pins, and what the README promises about installing."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import entry_points
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PLACES = {"cli": "jsdelta_cli", "migrations": "jsdelta_db/migrations", "jsdelta_db": "jsdelta_db"}
SHIPPED = {".py", ".toml", ".mako", ".typed"}
MAIN_JOB = (
    "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e . && .venv/bin/jsdelta quickstart"
)
TESTS = "python3 -m venv .venv && .venv/bin/pip install -c constraints.txt -e '.[test]' && .venv/bin/pytest"

# Put together here, so that this file does not name them.
REGISTRIES = [
    ".".join(parts) for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
]
MACHINE_PATH = re.compile(r"(?<![\w.~$}])/(?:home|Users|root|work|mnt)/\w")


def list_files():
    """Return the files of the checkout that git tracks or would."""
    command = [
        "git",
        "-c",
        "safe.directory=*",
        "ls-files",
        "-z",
        "--cached",
        "--others",
        "--exclude-standard",
    ]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (ROOT / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel built offline from a clean copy of the tracked files."""
    folder = tmp_path_factory.mktemp("packaging")
    for name in list_files():
        target = folder / "tree" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target)
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        folder / "dist",
        folder / "tree",
    ]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (folder / "dist").iterdir()
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_wheel_holds_the_tree(wheel):
    """Every module, recipe and template of the tree is in the wheel, under its installed name, and no other."""
    expected = set()
    for name in map(PurePosixPath, list_files()):
        place = PLACES.get(name.parts[0])
        if place is not None and name.suffix in SHIPPED:
            expected.add(str(PurePosixPath(place, *name.parts[1:])))
    shipped = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert shipped == expected
    assert {
        "jsdelta_db/py.typed",
        "jsdelta_db/config/recipes/digits.toml",
        "jsdelta_db/migrations/script.py.mako",
    } <= shipped
    assert {"jsdelta_cli/main.py", "jsdelta_db/migrations/env.py"} <= shipped


def test_wheel_fills_two_names_only(wheel):
    """site-packages gets jsdelta_db and jsdelta_cli: no cli, migrations or tests of anybody else's is hidden."""
    top = {name.partition("/")[0] for name in wheel.namelist()}
    assert {name for name in top if not name.endswith(".dist-info")} == {"jsdelta_db", "jsdelta_cli"}


def test_wheel_names_the_command_and_its_needs(wheel):
    """The entry point and the lower bounds are those of pyproject."""
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    (commands,) = (name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt"))
    assert "jsdelta = jsdelta_cli.main:main" in wheel.read(commands).decode()
    text = wheel.read(metadata).decode()
    version = re.search(r"^Version: (.+)$", text, flags=re.MULTILINE).group(1)
    assert version == PYPROJECT["project"]["version"]
    needs = set(re.findall(r"^Requires-Dist: ([^;\n]+?)$", text, flags=re.MULTILINE))
    assert needs == set(PYPROJECT["project"]["dependencies"])


def test_the_installed_command_is_the_one_under_test():
    """jsdelta starts jsdelta_cli.main:main, which is this tree's cli/main.py."""
    (entry,) = (each for each in entry_points(group="console_scripts") if each.name == "jsdelta")
    assert entry.value == "jsdelta_cli.main:main"
    assert (Path(sys.executable).parent / "jsdelta").is_file()


def test_every_package_folder_is_listed():
    """A folder with an __init__.py that pyproject does not list would drop out of the wheel."""
    folders = {PurePosixPath(name).parent for name in list_files() if name.endswith("/__init__.py")}
    packages = {
        ".".join(PurePosixPath(PLACES[folder.parts[0]], *folder.parts[1:]).parts)
        for folder in folders
        if folder.parts[0] in PLACES
    }
    assert sorted(packages) == sorted(PYPROJECT["tool"]["setuptools"]["packages"])
    with_code = {PurePosixPath(name).parent for name in list_files() if name.endswith(".py")}
    assert {folder for folder in with_code if folder.parts and folder.parts[0] in PLACES} <= folders


def test_the_version_is_said_once():
    """The package, the metadata and the changelog's newest entry agree."""
    import jsdelta_db

    (newest, *_) = re.findall(
        r"^## \[?([\d.]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    assert jsdelta_db.__version__ == PYPROJECT["project"]["version"] == newest


def normalized(name):
    """Return a distribution's name as pins spell it."""
    return re.sub(r"[-_.]+", "-", re.match(r"[\w.-]+", name).group()).lower()


def pins():
    """Return the pinned versions by name."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    meant = [line for line in lines if line.strip() and not line.startswith("#")]
    found = [
        re.fullmatch(r"([A-Za-z0-9._-]+)==([\w.!+-]+)(?: *;.*)?", line.partition(" #")[0].rstrip())
        for line in meant
    ]
    assert None not in found, meant[found.index(None)]
    return {normalized(match.group(1)): match.group(2) for match in found}


def test_constraints_pin_exactly_and_cover_what_is_asked_for():
    """Every line is one exact pin without an address, and every direct dependency has one."""
    project = PYPROJECT["project"]
    asked = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    assert {normalized(need) for need in asked} - {"jsdelta"} <= set(pins())


def test_pins_meet_the_lower_bounds():
    """What is pinned is not older than what pyproject asks for."""
    project, pinned = PYPROJECT["project"], pins()
    for need in [*project["dependencies"], *project["optional-dependencies"]["test"]]:
        bound = re.search(r">=([\d.]+)", need)
        if bound:
            version = [int(part) for part in re.findall(r"\d+", pinned[normalized(need)])]
            assert version >= [int(part) for part in bound.group(1).split(".")], need


def test_pyproject_states_lower_bounds_only():
    """An upper bound or an exact version would shut out users; the pins are in constraints.txt."""
    project = PYPROJECT["project"]
    asked = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    wrong = [need for need in asked if not re.fullmatch(r"[\w\[\]-]+(>=[\d.]+)?", need)]
    assert wrong == []
    assert project["requires-python"] == ">=3.11"


def test_readme_and_ci_run_the_same_line():
    """The README's two commands stand there as they are, each in one line; CI runs the test line."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    script = ROOT / ".ci" / "run"
    assert MAIN_JOB in readme
    assert TESTS in readme
    assert TESTS in script.read_text(encoding="utf-8").splitlines()
    assert script.stat().st_mode & 0o111


def test_the_top_level_is_what_people_look_for():
    """The top level holds the promised names and nothing else that is tracked."""
    top = {name.partition("/")[0] for name in list_files()}
    named = {name for name in top if not name.startswith(".")}
    assert named == {
        "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "constraints.txt",
        "jsdelta_db", "cli", "migrations", "tests", "benchmarks", "docs", "mlruns",
    }  # fmt: skip


def test_every_dependency_earns_its_place():
    """CONTRIBUTING.md says of each direct dependency what it is for."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").lower()
    project = PYPROJECT["project"]
    asked = [
        *project["dependencies"],
        *(need for extra in project["optional-dependencies"].values() for need in extra),
    ]
    assert sorted({normalized(need) for need in asked if normalized(need) not in text}) == []


def test_no_file_names_a_registry_or_a_machine():
    """Nothing of the tree depends on where it was written or on a registry's address."""
    found = []
    for name in list_files():
        text = (ROOT / name).read_bytes().decode("utf-8", errors="replace")
        found += [(name, host) for host in REGISTRIES if host in text]
        found += [(name, match.group()) for match in MACHINE_PATH.finditer(text)]
        found += [
            (name, option) for option in ("--" + "index-url", "--" + "extra-index-url") if option in text
        ]
    assert found == []


def test_nothing_large_or_made_is_tracked():
    """No database, checkpoint, figure or build is part of the tree."""
    made = {".db", ".pt", ".npz", ".npy", ".whl", ".pyc", ".gz"}
    found = [name for name in list_files() if PurePosixPath(name).suffix in made]
    # stores of past revisions, which migrations are tested on
    assert [name for name in found if not re.fullmatch(r"tests/data/store-\d{4}\.db", name)] == []
    assert all((ROOT / name).stat().st_size <= 400_000 for name in found)
    assert [name for name in list_files() if (ROOT / name).stat().st_size > 500_000] == []
