""".pt files: samples as tensors, under the names of torchattacks' ``Attack.save`` or under ours."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray

from jsdelta_db.errors import DataError
from jsdelta_db.samples.foreign.arrays import ARRAYS, CLAIMS, NEEDED, SampleArrays, check_present
from jsdelta_db.samples.given_arrays import as_array

OURS = {name: name for name in (*ARRAYS, *CLAIMS)}
# Attack.save knows no targets: whoever had some can add them to its dictionary under our name.
TORCHATTACKS = {
    "clean_inputs": "x", "adv_inputs": "x_adv", "labels": "label", "preds": "preds",
    "target_label": "target_label",
}  # fmt: skip
ADVICE = (
    "save them with torchattacks' attack.save(loader, save_path=…, save_clean_inputs=True), "
    "or a dictionary with torch.save({'x': …, 'x_adv': …, 'label': …, 'target_label': …}, file)"
)


def read_torch(path: Path) -> SampleArrays:
    """Read the tensors of a file that ``torch.save`` wrote; never runs code from it.

    Raises:
        DataError: not such a file, it holds more than tensors and plain values, or a tensor is missing.
    """
    refuse = f"--samples {path}"
    held = _load(path)
    if not isinstance(held, Mapping):
        raise DataError(f"{refuse} holds a {type(held).__name__}: must be a dictionary of tensors; {ADVICE}")
    if "adv_inputs" in held and "x_adv" in held:
        raise DataError(f"{refuse} holds both adv_inputs and x_adv: must be one of them; {ADVICE}")
    names = TORCHATTACKS if "adv_inputs" in held else OURS
    found: dict[str, Any] = {
        ours: as_array(held[theirs], f"{refuse}: {theirs}")
        for theirs, ours in names.items()
        if theirs in held
    }
    # torchattacks saves clean inputs only if it is told to.
    needed = NEEDED if names is OURS else ("x_adv", "label")
    check_present(found, needed, refuse, ADVICE, ", ".join(map(str, held)))
    return SampleArrays(**found) if names is OURS else _of_torchattacks(found)


def _of_torchattacks(found: dict[str, Any]) -> SampleArrays:
    """Return what is in a file of torchattacks, whose predictions are claims of success."""
    arrays = {name: array for name, array in found.items() if name in ARRAYS}
    read = ", ".join(f"{theirs} as {ours}" for theirs, ours in TORCHATTACKS.items() if ours in arrays)
    remarks = [f"a file of torchattacks: {read}"]
    success = _claimed_success(found)
    if success is not None:
        hit = "the target" if "target_label" in found else "not the label"
        remarks.append(f"preds that are {hit} are read as claimed successes")
    return SampleArrays(**{"x": None, **arrays}, success=success, remarks=tuple(remarks))


def _load(path: Path) -> object:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise DataError(
            f"--samples {path} cannot be read ({error.strerror or error}); "
            "give an .npz file, a .pt file or a folder"
        ) from error
    except Exception as error:  # torch's own message advises to run what is inside
        raise DataError(
            f"--samples {path} does not hold plain tensors alone, or is damaged; {ADVICE}"
        ) from error


def _claimed_success(found: Mapping[str, NDArray[Any]]) -> NDArray[Any] | None:
    """Return which samples the tool's model took for another label, or for the target."""
    preds, label, target = (found.get(name) for name in ("preds", "label", "target_label"))
    if preds is None or label is None or preds.shape != label.shape:
        return None
    hits: NDArray[Any] = preds != label if target is None else preds == target
    return hits
