"""Published files of known data sets: found in the data folder, checked, and faults named by file."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsdelta_db.errors import DataError, first_line

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".gz")
Check = Callable[[Path], bool]
Files = Sequence[tuple[str, Check]]  # each one's path in the data folder, and whether a file is as published


def has_md5(md5: str) -> Check:
    """Return the check that a file has this md5."""

    def check(path: Path) -> bool:
        from torchvision.datasets.utils import check_integrity

        return bool(check_integrity(path, md5))

    return check


def read_published(name: str, folder: Path, files: Files, make: Callable[[], Any]) -> Any:  # noqa: ANN401 untyped
    """Return what one of torchvision's readers makes of a data set's files.

    Args:
        folder: that holds them, or where ``make`` fetches them to.

    Raises:
        DataError: they are missing or damaged; names the file.
    """
    try:
        return make()
    except Exception as error:
        found = _find_fault(folder, files) or f"cannot be read from {folder}: {first_line(error)}"
        raise DataError(
            f"dataset {name!r} {found}; give the folder that holds it with --data-dir or JSDELTA_DATA_DIR, "
            "or fetch it with jsdelta train --download"
        ) from error


def find_root(data_dir: Path, inner: str) -> Path:
    """Return the folder that holds ``inner``, also where ``inner`` or a folder on the way to it was given."""
    parts = Path(inner).parts
    for depth in range(len(parts), 0, -1):
        if data_dir.parts[-depth:] == parts[:depth] and not (data_dir / inner).exists():
            return data_dir.parents[depth - 1]
    return data_dir


def _find_fault(folder: Path, files: Files) -> str:
    """Return what is wrong with a data set's files; "" if nothing is."""
    if not folder.is_dir():
        return f"was looked for in {folder}, which is no folder"
    missing = [file for file, _ in files if not (folder / file).is_file()]
    if len(missing) == len(files):
        places = {folder, (folder / missing[0]).parent}
        archives = sorted(
            path for place in places for path in place.glob("*") if path.name.endswith(ARCHIVES)
        )
        inside = f"; {archives[0]} is an archive: unpack it there" if archives else ""
        return f"is not in {folder}, which has no {missing[0]}{inside}"
    if missing:
        return f"is not whole: {folder / missing[0]} is missing"
    damaged = [folder / file for file, is_whole in files if not is_whole(folder / file)]
    return f"is damaged: {damaged[0]} is not the published file" if damaged else ""
