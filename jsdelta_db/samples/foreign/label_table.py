"""Label tables: ``labels.csv`` beside images, with a label and perhaps a target for each name."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jsdelta_db.errors import DataError
from jsdelta_db.records import UNTARGETED

COLUMNS = {
    "name": ("name", "filename"),
    "label": ("label",),
    "target": ("target", "target_label", "targeted_label"),
}
ENDING = ".png"


@dataclass(frozen=True, slots=True)
class LabelTable:
    """Labels by name.

    Attributes:
        labels: label and target (−1 for none) by name, in the order of the file.
        columns: those that were read, for people.
    """

    labels: Mapping[str, tuple[int, int]]
    columns: str


def without_ending(name: str) -> str:
    """Return the name of an image without its ``.png``."""
    return name[: -len(ENDING)] if name.lower().endswith(ENDING) else name


def read_label_table(path: Path) -> LabelTable:
    """Read ``labels.csv``.

    Raises:
        DataError: it cannot be read, lacks a column, has a name twice, or a label that is no whole number.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *lines = list(csv.reader(file, strict=True)) or [[]]
    except OSError as error:
        raise DataError(f"--samples: {path} cannot be read ({error.strerror}); {_advise()}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"--samples: {path} is not a table of UTF-8 text; {_advise()}") from error
    places = _find_columns(path, [name.strip().lower() for name in header])
    labels: dict[str, tuple[int, int]] = {}
    for number, line in enumerate(lines, 2):
        if not any(line):
            continue
        where = f"--samples: {path}, line {number}"
        if len(line) != len(header):
            raise DataError(f"{where} has {len(line)} values: must be {len(header)}, as the first line has")
        name = without_ending(line[places["name"]].strip())
        if name in labels:
            raise DataError(f"{where} has {name!r} for the second time: must be one row an image")
        target = line[places["target"]].strip() if "target" in places else ""
        labels[name] = (
            _read_label(where, "label", line[places["label"]].strip()),
            _read_label(where, "target", target) if target else UNTARGETED,
        )
    return LabelTable(labels, ", ".join(header[place].strip() for place in places.values()))


def _find_columns(path: Path, header: Sequence[str]) -> dict[str, int]:
    """Return the place of each column that is there."""
    places = {}
    for column, names in COLUMNS.items():
        found = [place for place, name in enumerate(header) if name in names]
        shown = ", ".join(header) or "nothing"
        if len(found) > 1:
            raise DataError(f"--samples: {path} has several columns for the {column} ({shown}); {_advise()}")
        if found:
            places[column] = found[0]
        elif column != "target":
            raise DataError(f"--samples: {path} has no column {column} ({shown}); {_advise()}")
    return places


def _read_label(where: str, what: str, text: str) -> int:
    try:
        number = float(text)  # a table that was written with gaps has 3.0 for 3
        label = int(number)
    except (ValueError, OverflowError):
        number, label = 0.5, 0
    if label != number:
        raise DataError(f"{where}: {what} {text!r} is not valid: must be a whole number, the class's place")
    return label


def _advise() -> str:
    return "the first line must be name,label or name,label,target"
