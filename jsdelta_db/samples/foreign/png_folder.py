"""PNG folders: samples as pairs of images, in the layout that transfer benchmarks write.

::

    clean/NAME.png    (or images/)        as the attack found them
    adv/NAME.png      (or adv_images/)    as it left them
    labels.csv                            columns name (or filename), label and, if there were targets,
                                          target (or target_label, targeted_label)

Samples come in the order of ``labels.csv``, where names may lack their ``.png``. A name without an
adversarial image is left out and counted; an adversarial image without a clean one or a label is refused.
"""

from collections.abc import Container
from pathlib import Path

import numpy as np

from jsdelta_db.errors import DataError
from jsdelta_db.samples.foreign.arrays import SampleArrays
from jsdelta_db.samples.foreign.label_table import read_label_table, without_ending
from jsdelta_db.samples.foreign.png_images import read_images

CLEAN = ("clean", "images")
ADVERSARIAL = ("adv", "adv_images")
TABLE = "labels.csv"
ADVICE = f"must have clean/NAME.png, adv/NAME.png and {TABLE} with columns name, label, target"
MOST_SHOWN = 10  # names of a folder, for a message


def read_folder(folder: Path) -> SampleArrays:
    """Read a folder of clean and adversarial PNGs with their labels; the images are uint8 ``(n, c, h, w)``.

    Raises:
        DataError: another layout, images that do not pair up or cannot be read, or a label that is none.
    """
    clean, adversarial = (_find_folder(folder, names) for names in (CLEAN, ADVERSARIAL))
    table = read_label_table(folder / TABLE)
    of_clean, of_adversarial = _list_pngs(clean), _list_pngs(adversarial)
    _check_all_in(of_adversarial, of_clean, f"an image of the same name in {clean}")
    _check_all_in(of_adversarial, table.labels, f"a row in {folder / TABLE}")
    names = [name for name in table.labels if name in of_adversarial]
    images = read_images([files[name] for files in (of_clean, of_adversarial) for name in names])
    label, target = np.array([table.labels[name] for name in names], dtype=np.int64).T
    remarks = [
        f"{len(names)} pairs of PNGs in {clean.name}/ and {adversarial.name}/; of {TABLE}: {table.columns}"
    ]
    left_out = len(table.labels.keys() | of_clean.keys()) - len(names)
    if left_out:
        remarks.append(f"{left_out} names have no image in {adversarial.name}/ and are left out")
    return SampleArrays(images[: len(names)], images[len(names) :], label, target, remarks=tuple(remarks))


def _find_folder(folder: Path, names: tuple[str, ...]) -> Path:
    found = [folder / name for name in names if (folder / name).is_dir()]
    if len(found) == 1:
        return found[0]
    there = sorted(path.name for path in folder.iterdir())
    shown = ", ".join(there[:MOST_SHOWN]) + (" …" if len(there) > MOST_SHOWN else "")
    seen = f"both {' and '.join(names)}" if found else f"neither {' nor '.join(names)}"
    raise DataError(f"--samples {folder} has {seen} (it holds {shown or 'nothing'}); {ADVICE}")


def _list_pngs(folder: Path) -> dict[str, Path]:
    """Return a folder's files by their names without the ending."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    other = [path for path in files if path.suffix.lower() != ".png" or path.is_dir()]
    if other or not files:
        seen = f"{other[0]} is no .png file" if other else f"{folder} is empty"
        raise DataError(f"--samples: {seen}: must be PNGs alone, which keep every pixel")
    return {without_ending(path.name): path for path in files}


def _check_all_in(files: dict[str, Path], wanted: Container[str], what: str) -> None:
    missing = [path for name, path in files.items() if name not in wanted]
    if missing:
        more = f" (nor have {len(missing) - 1} more)" if len(missing) > 1 else ""
        raise DataError(f"--samples: {missing[0]} has no counterpart{more}: must have {what}")
