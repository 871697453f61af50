"""Named code: a user's ``module:callable`` or ``file.py:callable``, found, imported and run with care."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from jsdelta_db.config.consent import FORMS, find_file, is_in_file, look_in_working_folder
from jsdelta_db.errors import JsdeltaError, UsageError, first_line
from jsdelta_db.runtime.files import sha256_of_file
from jsdelta_db.runtime.precision import keep_float32


def load_callable(name: str, what: str, forms: str = FORMS) -> Callable[..., Any]:
    """Return the callable of a name; consent to its code was given before.

    Args:
        what: the option or thing that the name was given for, as errors call it.
        forms: that the name may have.

    Raises:
        UsageError: no such form, module, file or callable, or its code fails when it is imported.
    """
    place, colon, attribute = name.rpartition(":")
    if not (place and colon and attribute):
        raise UsageError(f"{what} {name!r} is not valid: must be {forms}")
    refuse = f"{what} {name!r} cannot be imported "
    with users_code(lambda reason: UsageError(f"{refuse}({reason}): must be {forms}")):
        if is_in_file(name):
            path = find_file(name)
            if path is None:
                raise UsageError(f"{refuse}(there is no such file): must be {forms}")
            module = load_module(path)
        else:
            look_in_working_folder()
            module = importlib.import_module(place)
        found = getattr(module, attribute)
    if not callable(found):
        raise UsageError(f"{what} {name!r} is a {type(found).__name__}, not callable: must be {forms}")
    return found  # type: ignore[no-any-return] # whatever can be called


def load_factory(name: str, what: str, makes: str, forms: str = FORMS) -> Callable[..., Any]:
    """Return the callable of a name that is written in Python.

    A slip such as ``os:abort`` would end the program before anything could be said.

    Args:
        what, forms: see :func:`load_callable`.
        makes: what it must return, as errors call it.

    Raises:
        UsageError: see :func:`load_callable`, or it is built in.
    """
    factory = load_callable(name, what, forms)
    if not _is_written_in_python(factory):
        raise UsageError(
            f"{what} {name!r} is a {type(factory).__name__}: must be a Python function or class that "
            f"returns {makes}"
        )
    return factory


def load_module(path: Path) -> ModuleType:
    """Return a file as a module, each content loaded once: its classes are then the same everywhere.

    Modules beside the file can be imported by it.
    """
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    name = f"jsdelta_file_{path.stem}_{sha256_of_file(path)[:16]}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)  # dataclasses look for it
        try:
            spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def find_source(fn: Callable[..., Any]) -> Path | None:
    """Return the file that a callable is written in, beneath its decorators; None if none can be read."""
    try:
        file = inspect.getsourcefile(inspect.unwrap(fn))
    except TypeError:  # built in, or an object
        return None
    path = None if file is None else Path(file)
    return path if path is not None and path.is_file() else None


@contextmanager
def users_code(make_error: Callable[[str], JsdeltaError]) -> Iterator[None]:
    """Run code of the user's: whatever it raises becomes an error of ours, also what would end the program.

    What is an error of ours already stays as it is. Switches of torch's that it turned are turned back.

    Args:
        make_error: makes it of the reason.
    """
    try:
        yield
    except (KeyboardInterrupt, JsdeltaError):
        raise
    except BaseException as error:
        reason = f"{type(error).__name__}: {error}" if isinstance(error, SystemExit) else first_line(error)
        raise make_error(reason) from error
    finally:
        keep_float32()


def _is_written_in_python(factory: Callable[..., object]) -> bool:
    while isinstance(factory, partial):
        factory = factory.func
    innermost = inspect.unwrap(factory)
    return inspect.isclass(innermost) or inspect.isfunction(innermost) or inspect.ismethod(innermost)
