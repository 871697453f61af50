"""Exports of stored samples: as arrays that any tool reads, or as pictures."""

import csv
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.orm import Session

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError, UsageError, one_of
from jsdelta_db.runtime.files import refuse_to_replace
from jsdelta_db.runtime.outputs import check_free, replace_output, write_output
from jsdelta_db.samples.choice import SampleChoice, find_stored_attack
from jsdelta_db.samples.stored_attack import StoredAttack, StoredImages, StoredRows
from jsdelta_db.store.session import reading_store

FORMATS = ("npz", "png")
INDEX = "index.csv"
PICTURE = re.compile(r"sample_.+_(clean|adv)\.png")


def check_target(path: Path, form: str | None, *, force: bool) -> str:
    """Return the format to write, ``npz`` or ``png``, before any work is done.

    Args:
        path: an .npz file, or a folder for pictures.
        form: None to go by the path's ending.
        force: whether a file, or an earlier export's folder, may be replaced.

    Raises:
        UsageError: an ending or format that is not known, or something that must not be overwritten.
    """
    if form not in (None, *FORMATS):
        raise UsageError(f"--format {form!r} is not valid: must be {one_of(FORMATS)}")
    ending = path.suffix.lower()
    if form is None and ending not in ("", ".npz") and not path.is_dir():
        raise UsageError(
            f"--output {str(path)!r} ends in {path.suffix!r}: must be .npz, or a folder for PNG files"
        )
    chosen = form or ("npz" if ending == ".npz" else "png")
    if (chosen == "npz") != (ending == ".npz"):
        wanted = "a file that ends in .npz" if chosen == "npz" else "a folder"
        raise UsageError(f"--output {str(path)!r} does not fit --format {chosen}; give {wanted}")
    if not path.absolute().parent.is_dir():
        raise UsageError(
            f"--output {str(path)!r}: the folder {str(path.parent)!r} does not exist; make it first"
        )
    if chosen == "npz" and path.is_dir():
        raise UsageError(f"--output {str(path)!r} is a folder; give another name")
    if chosen == "npz":
        check_free(path, force=force)
    if chosen == "png":
        _check_folder(path, force=force)
    return chosen


def _check_folder(path: Path, *, force: bool) -> None:
    """Refuse to write over anything; with ``force`` over anything but an earlier export."""
    if path.exists() and not path.is_dir():
        raise UsageError(f"--output {str(path)!r} is a file; give a folder for PNG files")
    refuse_to_replace(path, Path.cwd())
    names = sorted(each.name for each in path.iterdir()) if path.is_dir() else []
    if names and not force:
        raise UsageError(f"--output {str(path)!r} is not empty; give another folder, or add --force")
    foreign = [name for name in names if name != INDEX and not PICTURE.fullmatch(name)]
    if foreign:
        raise UsageError(
            f"--output {str(path)!r} holds more than an export ({foreign[0]}), and --force would delete it; "
            "give another folder"
        )


def export_samples(
    workspace: Workspace,
    path: Path,
    choice: SampleChoice,
    *,
    form: str | None = None,
    force: bool = False,
) -> int:
    """Write an attack's samples, whole or not at all, and return how many.

    Args:
        form, force: see :func:`check_target`.

    Raises:
        NothingToDoError: no attack, or no sample, is as wanted.
        UsageError, DataError, CheckpointError: a name, the target, the data set or a stored file is
            not as it should be.
    """
    chosen = check_target(path, form, force=force)
    if chosen == "png":
        refuse_to_replace(path, workspace.root, "the workspace")
    with reading_store(workspace.db_url) as connection, Session(connection) as session:
        stored = find_stored_attack(session, workspace, choice)
        rows = stored.read_rows()
        rows = rows.pick(choice.matches(rows, stored.classes))
        if not len(rows):
            raise NothingToDoError(_nothing(stored, choice))
        images = stored.read_images(rows)
    if chosen == "npz":
        write_output(path, as_npz(stored, rows, images))
        return len(rows)
    with replace_output(path) as folder:
        _write_pictures(folder, stored, rows, images)
    return len(rows)


def _nothing(stored: StoredAttack, choice: SampleChoice) -> str:
    attack = stored.attack
    if choice.bugs is None:
        return f"attack {attack.uid} has no successful sample; add --all for those that failed"
    if stored.evaluation is None:
        return f"attack {attack.uid} was not judged, so it has no bugs; leave --bugs out, or judge it first"
    return f"attack {attack.uid} has no bug at β = {choice.bugs:g}; ask for a higher --bugs"


def as_npz(stored: StoredAttack, rows: StoredRows, images: StoredImages) -> bytes:
    """Return samples as an .npz file that ``jsdelta score --samples`` takes."""
    buffer = io.BytesIO()
    np.savez(
        buffer,
        x=images.x,
        x_adv=images.x_adv,
        label=rows.source_label,
        target_label=rows.requested_target,  # aimed at: −1 when untargeted
        adversarial_label=images.logits.argmax(1),  # the attacked model's
        success=rows.success,
        js_delta=rows.js_delta,
        confidence=rows.confidence,
        sample_index=rows.sample_index,
        eps=np.float64(stored.attack.eps),
        norm=np.str_(stored.attack.norm),
        classes=np.array(stored.classes, dtype=np.str_),
        attack=np.str_(stored.attack.uid),
        evaluation=np.str_(stored.evaluation.uid if stored.evaluation else ""),
    )
    return buffer.getvalue()


def _write_pictures(folder: Path, stored: StoredAttack, rows: StoredRows, images: StoredImages) -> None:
    """Write pictures and their index into a folder."""
    names = file_labels(stored.classes)
    head = (
        "sample_index", "clean", "adversarial", "label", "target_label", "label_name", "target_label_name",
        "success", "confidence", "js_delta", "norm", "eps",
    )  # fmt: skip
    with (folder / INDEX).open("w", encoding="utf-8", newline="") as file:
        index = csv.writer(file, lineterminator="\n")
        index.writerow(head)
        for i in range(len(rows)):
            source, target = int(rows.source_label[i]), int(rows.target_label[i])
            stem = f"sample_{rows.sample_index[i]}_{names[source]}_to_{names[target]}"
            pictures = {f"{stem}_clean.png": images.x[i], f"{stem}_adv.png": images.x_adv[i]}
            for name, pixels in pictures.items():
                (folder / name).write_bytes(as_png(pixels))
            js_delta = float(rows.js_delta[i])
            index.writerow((
                int(rows.sample_index[i]), *pictures, source, target, stored.classes[source],
                stored.classes[target], int(rows.success[i]), float(rows.confidence[i]),
                "" if np.isnan(js_delta) else js_delta, stored.attack.norm, stored.attack.eps,
            ))  # fmt: skip


def as_png(pixels: NDArray[np.float32]) -> bytes:
    """Return an image ``(1 or 3, h, w)`` in [0, 1] as an 8-bit PNG, each value rounded to the nearest level.

    Rounding down would move every pixel by half a level on average, and lose attacks of 1/255.
    """
    from matplotlib.image import imsave

    levels = np.rint(pixels.astype(np.float64) * 255.0).astype(np.uint8)
    rgb = np.repeat(levels, 3, axis=0) if len(levels) == 1 else levels
    buffer = io.BytesIO()
    imsave(buffer, np.ascontiguousarray(np.moveaxis(rgb, 0, -1)), format="png")  # uint8 stays as it is
    return buffer.getvalue()


def file_labels(classes: Sequence[str]) -> list[str]:
    """Return the labels as parts of file names: their names where these stay distinct, else numbers."""
    safe = [re.sub(r"[^\w-]+", "-", name).strip("-_") for name in classes]
    distinct = len({name.casefold() for name in safe}) == len(safe) and all(safe)
    return safe if distinct else [str(label) for label in range(len(classes))]
