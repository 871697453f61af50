"""Version of the installed package."""

from importlib.metadata import PackageNotFoundError, version


def installed_version() -> str:
    """Return the version that pip installed; ``0+unknown`` in a source tree that never was."""
    try:
        return version("jsdelta")
    except PackageNotFoundError:
        return "0+unknown"
