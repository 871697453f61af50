"""Comparisons: rows that say how two sides differ, and if that is more than a draw of images and models."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jsdelta_db.queries.comparison.attempts import Pairing, read_pairing
from jsdelta_db.queries.comparison.difference import SPARSE, Difference, holm
from jsdelta_db.queries.comparison.distances import kolmogorov_smirnov, wasserstein
from jsdelta_db.queries.comparison.estimates import Estimates
from jsdelta_db.queries.comparison.judges import check_agreement, pair_members
from jsdelta_db.queries.comparison.quantities import COLUMNS
from jsdelta_db.queries.comparison.request import EQUAL_SUCCESS, QUANTITIES, Request
from jsdelta_db.queries.comparison.sides import Sides, arrange
from jsdelta_db.queries.grouping import Table, common_norm
from jsdelta_db.queries.selection import Row, Selection, list_evaluations
from jsdelta_db.queries.statistics.fractions import TOO_FEW_IMAGES
from jsdelta_db.store.reading import Reader, without_collecting

COMPARED_KEYS = (
    "a", "b", "measure", "beta", "quantity", "n_units", "n_images", "n_models",
    *(
        f"{name}{end}"
        for quantity in QUANTITIES[:-1]
        for name, ends in zip(COLUMNS[quantity], (("_a", "_b"), ("", "_low", "_high")), strict=True)
        for end in ends
    ),
    "n_equal_success", *(f"{COLUMNS[EQUAL_SUCCESS][1]}{end}" for end in ("", "_low", "_high")),
    "p", "p_holm", "members_negative", "members_positive", "equivalent", "ks", "wasserstein", "covers", "mde",
    "share_models", "verdict", "warnings",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison(Table):
    """Rows of a comparison; what is pooled differs among the evaluations of one side of a row.

    Attributes:
        alone: groups that only one side has, in words.
    """

    alone: tuple[str, ...] = ()

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns, in order."""
        return (*self.keys, *COMPARED_KEYS)


@without_collecting()
def compare(
    reader: Reader,
    request: Request,
    selection: Selection = Selection(),  # noqa: B008 frozen
) -> Comparison:
    """Compare two sides of the selected evaluations, row by row.

    Raises:
        UnknownNameError: a name that the store does not have.
        UsageError: sides that differ in more than what is compared, that are empty, or that are the same.
        StoreError: the store lacks what the measure needs.
    """
    evaluations = list_evaluations(reader, selection)
    if not evaluations:
        return Comparison((), [], {}, "")
    layout = arrange(reader, request, evaluations, selection)
    told = [check_agreement(sides, request) for sides in layout.sides]
    compared = [each for sides in layout.sides for each in sides.both]
    n_attempts = sum(each.n_attempts for each in compared)
    request = replace(request, measuring=request.measuring.for_attempts(n_attempts))
    grid = evaluations if request.first_falls else []
    rows = [
        row
        for sides, differing in zip(layout.sides, told, strict=True)
        for row in _compare(sides, read_pairing(reader, sides, request, selection, grid), request, differing)
    ]
    for row, p_holm in zip(rows, holm([row["p"] for row in rows]), strict=True):
        row["p_holm"] = p_holm
    return Comparison(
        layout.keys, rows, layout.pooled, common_norm(compared),
        layout.separated, layout.n_left_out, alone=layout.alone,
    )  # fmt: skip


def _compare(sides: Sides, pairing: Pairing, request: Request, differing: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of two sides, one for each β."""
    values = [np.concatenate([each.values for each in side]) for side in (pairing.a, pairing.b)]
    pairs = pair_members(sides.of_a, sides.of_b)
    for place, beta in enumerate(request.betas):
        estimates = Estimates(pairing, pairs, place, request.measuring.interval)
        differences = {quantity: estimates.difference(quantity) for quantity in QUANTITIES}
        asked = differences[request.quantity]
        signs = estimates.list_signs(request.quantity)
        yield {
            **sides.facts,
            "a": sides.a,
            "b": sides.b,
            "measure": request.measuring.measure,
            "beta": beta,
            "quantity": request.quantity,
            "n_units": pairing.n_units,
            "n_images": asked.n_images,
            "n_models": estimates.n_models,
            **_number_cells(estimates, differences),
            "p": asked.p,
            "p_holm": None,
            "members_negative": sum(sign < 0 for sign in signs),
            "members_positive": sum(sign > 0 for sign in signs),
            "equivalent": None if request.equivalence is None else asked.is_within(request.equivalence),
            "ks": kolmogorov_smirnov(*values),
            "wasserstein": wasserstein(*values),
            "covers": asked.covers,
            "mde": asked.mde,
            "share_models": asked.share_models,
            "verdict": asked.judge(request.equivalence),
            "warnings": "; ".join(_warn(asked, pairing, estimates, request, differing)) or None,
        }


def _number_cells(estimates: Estimates, differences: Mapping[str, Difference]) -> Row:
    """Return the numbers of all quantities."""
    cells: Row = {}
    for quantity, (of_side, of_difference) in COLUMNS.items():
        if of_side:
            cells[f"{of_side}_a"], cells[f"{of_side}_b"] = estimates.values(quantity)
        else:
            cells["n_equal_success"] = estimates.count_equal()
        difference = differences[quantity]
        cells |= {
            of_difference: difference.value,
            f"{of_difference}_low": difference.low,
            f"{of_difference}_high": difference.high,
        }
    return cells


def _warn(
    asked: Difference, pairing: Pairing, estimates: Estimates, request: Request, differing: Sequence[str]
) -> Iterator[str]:
    """Yield what a reader of a difference must know."""
    if not pairing.n_units:
        yield "no image was attacked towards the same label on both sides"
    elif asked.value is None:
        yield "a side has no success" if request.quantity != EQUAL_SUCCESS else "no success of both sides"
    elif asked.is_sparse:
        yield SPARSE
    elif asked.low is None:
        yield "no interval: one image alone" if asked.n_images == 1 else "no interval: no spread"
    if 0 < asked.n_images < TOO_FEW_IMAGES:
        yield f"fewer than {TOO_FEW_IMAGES} images"
    if asked.value is not None:
        yield from estimates.of_models(request.quantity).warnings
    if pairing.is_cut:
        yield "evaluators that judge both sides alone are counted"
    yield from differing
