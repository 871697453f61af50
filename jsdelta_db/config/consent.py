"""Consent to code of the user's, ``module:callable`` or ``path/to/file.py:callable``, by its name and source.

It is kept per user and machine. Typing a name is consent. A name that only stands in a row is not: a store
may have come from anywhere, and brings no consent, since this is kept outside of it.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from importlib.machinery import ModuleSpec
from pathlib import Path

from jsdelta_db.config.locations import config_folder
from jsdelta_db.errors import CodeError, UsageError
from jsdelta_db.runtime.files import locked_file, sha256_of_file, write_atomically

FORMS = "module:callable or path/to/file.py:callable"
FILE, LOCK = "trusted.json", "trusted.lock"
LIBRARY = "torchvision:"  # whose networks come by name alone, like our own: there is no code to agree to
_GIVEN: set[tuple[str, str]] = set()  # in this process, also where nothing can be kept


def is_code(name: str) -> bool:
    """Tell whether a name is one of code that somebody wrote."""
    return ":" in name and not name.startswith(LIBRARY)


def is_in_file(name: str) -> bool:
    """Tell whether a name is ``path/to/file.py:callable``."""
    return name.rpartition(":")[0].endswith(".py")


def find_file(name: str) -> Path | None:
    """Return the file of ``path/to/file.py:callable``: where the name says, or in the current folder.

    None if it is in neither: the name was perhaps typed on another machine.
    """
    path = Path(name.rpartition(":")[0])
    return next((each for each in (path, Path.cwd() / path.name) if each.is_file()), None)


def give_consent(name: str) -> None:
    """Agree to run the code of a name, as it is now; a built-in name needs none."""
    if not is_code(name):
        return
    source = _hash(_find_files(name) or [])
    _GIVEN.add((name, source))
    if not source:  # typed into a notebook: nothing that could be found again
        return
    folder = config_folder()
    with suppress(OSError):  # no home, or one that is not ours: then it holds for this process alone
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locked_file(folder / LOCK):
            known = _read(folder / FILE)
            if source not in known.setdefault(name, []):
                known[name].append(source)
                write_atomically(folder / FILE, (json.dumps(known, indent=2) + "\n").encode())


def require_consent(name: str, *, is_given: bool = False) -> None:
    """Check that the user agreed to run the code of a name that a row holds; nothing is imported.

    Args:
        is_given: whether the user agrees now, by ``--trust-code``.

    Raises:
        CodeError: nobody did, or the source is another one by now.
        UsageError: there is no such module or file.
    """
    if not is_code(name):
        return
    files = _find_files(name)
    if files is None and is_in_file(name):
        raise UsageError(f"{name} is not there; run the command in the folder that holds the file now")
    if files is None:
        raise UsageError(f"{name!r} cannot be imported (no such module): must be {FORMS}")
    if is_given:
        give_consent(name)
        return
    source, known = _hash(files), _read(config_folder() / FILE).get(name, [])
    if source in known or (name, source) in _GIVEN:
        return
    where = files[-1] if files else "no file"
    why = "has changed since you agreed to run it" if known else "is code that only a row of the store names"
    raise CodeError(f"{name} ({where}) {why}; read it, then add --trust-code to run it")


def look_in_working_folder() -> None:
    """Let modules of the current folder be found, where a console script does not look."""
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))


def _find_files(name: str) -> list[Path] | None:
    """Return the files that importing a name's module runs first: those of its packages and its own.

    Nothing is imported, also no package above it. None if there is no such module or file.
    """
    if is_in_file(name):
        file = find_file(name)
        return None if file is None else [file]
    look_in_working_folder()
    files: list[Path] = []
    search: Sequence[str] | None = None
    module, _, _ = name.partition(":")
    for package in _chain(module):
        loaded = sys.modules.get(package)
        spec = loaded.__spec__ if loaded is not None else _find_spec(package, search)
        if spec is None and loaded is None:
            return None
        if spec is not None and spec.has_location and spec.origin is not None:
            files.append(Path(spec.origin))
        search = list(spec.submodule_search_locations or ()) if spec is not None else []
    return files


def _chain(module: str) -> Iterator[str]:
    """Yield ``a``, ``a.b`` and ``a.b.c`` of the last."""
    parts = module.split(".")
    return (".".join(parts[:length]) for length in range(1, len(parts) + 1))


def _find_spec(package: str, search: Sequence[str] | None) -> ModuleSpec | None:
    """Do what an import does first; ``importlib.util.find_spec`` would import the package above."""
    found = (finder.find_spec(package, search) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    try:
        return next((spec for spec in found if spec is not None), None) if package else None
    except KeyError:  # Python's own finder: a package without a file, below another that is not imported
        spec = ModuleSpec(package, None, is_package=True)
        folders = (Path(place) / package.rpartition(".")[2] for place in search or ())
        spec.submodule_search_locations = [str(folder) for folder in folders if folder.is_dir()]
        return spec


def _hash(files: Sequence[Path]) -> str:
    """Return one sha256 for all files; "" if there are none, or one that cannot be read."""
    each = [sha256_of_file(path) for path in files]
    return hashlib.sha256("".join(each).encode()).hexdigest() if each and all(each) else ""


def _read(path: Path) -> dict[str, list[str]]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = known.items() if isinstance(known, dict) else ()
    return {name: sources for name, sources in pairs if isinstance(sources, list)}
