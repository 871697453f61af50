"""Ranges: which values a column can hold, beyond its type; both ends are included.

A value outside cannot be a result: imports refuse it before they write a row, and ``db check`` names it.
Limits that depend on other rows (labels by the data set's classes) are in ``exchange/contents.py``.
"""

from collections.abc import Mapping, Sequence

from jsdelta_db.config.checks import MOST_STEPS, NORMS
from jsdelta_db.config.eps import LARGEST_L2
from jsdelta_db.config.evaluation import TEMPERATURES
from jsdelta_db.records import LARGEST_JS_DELTA, UNTARGETED
from jsdelta_db.store.attempts import MOST_IMAGES
from jsdelta_db.store.constants import ADDED, BUILTIN, CONSTRUCTED

Range = tuple[float, float]

_SHARE, _BITS = (0.0, 1.0), (0.0, 1.0)
_COUNT, _FROM_ONE = (0, (1 << 63) - 1), (1, (1 << 63) - 1)
_POSITIVE, _FROM_ZERO = (5e-324, 1.7976931348623157e308), (0.0, 1.7976931348623157e308)
_LABEL, _IMAGE = (0, (1 << 15) - 1), (0, MOST_IMAGES - 1)

RANGES: Mapping[str, Mapping[str, Range]] = {
    "model": {"clean_accuracy": _SHARE, "threads": _COUNT},
    "model_metric": {"eps": (0.0, LARGEST_L2), "steps": (0, MOST_STEPS), "n": _COUNT},
    "ensemble_member": {"position": _COUNT},
    "attack": {
        "eps": (5e-324, LARGEST_L2), "steps": (0, MOST_STEPS), "step_size": _FROM_ZERO, "restarts": _COUNT,
        "images": _FROM_ONE, "chunk_size": _FROM_ONE, "n_images": _COUNT, "n_skipped": _COUNT,
        "n_attempts": _COUNT, "threads": _COUNT,
    },
    "attack_surrogate": {"position": _COUNT},
    "attack_chunk": {
        "position": _COUNT, "n_attempts": _FROM_ONE, "sub_batch": _FROM_ONE, "forward_passes": _COUNT,
        "backward_passes": _COUNT,
    },
    "sample": {
        "sample_index": _IMAGE, "requested_target": (UNTARGETED, _LABEL[1]), "source_label": _LABEL,
        "target_label": _LABEL, "success": (0, 1), "confidence": _SHARE, "linf": _SHARE,
        "l2": (0.0, LARGEST_L2), "stability": _SHARE, "outside": (0, 1),
    },
    "evaluation_member": {"position": _COUNT, "temperature": _POSITIVE},
    "evaluation_chunk": {"position": _COUNT, "n_attempts": _FROM_ONE, "sub_batch": _FROM_ONE},
    "rho_baseline": {
        "label_low": _LABEL, "label_high": _LABEL, "rho": _BITS, "standard_error": _FROM_ZERO,
        "pairs": _FROM_ONE, "n_low": _FROM_ONE,
    },
    "evaluation_baseline": {
        "label_low": _LABEL, "label_high": _LABEL, "rho": _BITS, "rho_of_mean": _BITS,
        "standard_error": _FROM_ZERO, "pairs": _FROM_ONE, "images": _FROM_ONE,
    },
    "score": {
        "sample_index": _IMAGE, "requested_target": (UNTARGETED, _LABEL[1]), "js": _BITS,
        "js_of_mean": _BITS, "js_delta": (0.0, LARGEST_JS_DELTA), "js_attacked": _BITS, "n_right": _COUNT,
        "n_at_target": _COUNT, "n_at_target_adv": _COUNT, "n_right_adv": _COUNT,
    },
}  # fmt: skip
# Columns that hold an array a row: the range of its numbers.
PACKED_RANGES: Mapping[str, Range] = {
    "member_js": _BITS, "js_of_mean_without": _BITS, "image_means": _BITS, "rho_of_mean_without": _BITS,
}  # fmt: skip
CHOICES: Mapping[str, Mapping[str, Sequence[str]]] = {
    "dataset": {"kind": (BUILTIN, CONSTRUCTED, ADDED)},
    "model_metric": {"norm": ("", *NORMS)},
    "attack": {"norm": NORMS},
    "evaluation": {"temperature_rule": TEMPERATURES},
    "rho_baseline": {"temperature_rule": TEMPERATURES},
}


def range_of(table: str, column: str) -> Range | None:
    """Return the range of a column of numbers, None if it has no limits."""
    return RANGES.get(table, {}).get(column)


def shown(limits: Range) -> str:
    """Return a range as errors show it."""
    low, high = limits
    return f"{low:g} to {high:.10g}" if low > 1e-300 or low <= 0 else f"above 0, at most {high:g}"
