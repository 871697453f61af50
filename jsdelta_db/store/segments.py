"""Segments: a finished evaluation's attempts as columns, which queries read instead of rows.

Ten million rows take over a second to scan and far longer to group. The same attempts, ordered by JSΔ and
cut into segments with their smallest and largest JSΔ, answer "how many are below β" by a sum over segments;
only one that β falls into is opened. So the numbers are exact for every β. Groups by label and
``--population`` count attempt by attempt (``queries/tally.py``).
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.store.checksums import check_blobs, checksum_rows, raise_altered
from jsdelta_db.store.outside import COUNTED
from jsdelta_db.store.packed import BY_EVALUATOR, FLOAT, join_unpacked, unpack
from jsdelta_db.store.reading import Reader, fetch_batches, fetch_many

SEGMENT_ROWS = 1024  # of successes with a JSΔ: 8 kB of it are read where β falls into a segment
UNDIVIDED_ROWS = 1 << 16  # of other attempts, into which no β falls
# In the order of the table's columns; those after ``js_delta`` are null in segments from before 0007.
BLOBS = (
    "sample_index", "label_pair", "n_right", "js_delta", "n_at_target", "n_at_target_adv", "n_right_adv",
    "confidence", "js_of_mean", "js_attacked", *BY_EVALUATOR,
)  # fmt: skip
NUMBERS = ("position", "n", "success", "js_delta_min", "js_delta_max")
KEY = ("sample_index", "requested_target")
OF_SAMPLE = (*KEY, "source_label", "target_label", "success", "confidence", "linf", "l2", "stability")
OF_SCORE = (
    "js", "js_of_mean", "js_delta", "js_attacked", "n_right", "n_at_target", "n_at_target_adv", "n_right_adv",
)  # fmt: skip

PLAIN = tuple(name for name in BLOBS if name in {*OF_SAMPLE, *OF_SCORE})  # of one value an attempt

DIVIDED = 2  # kind = 2·success + (JSΔ undefined): β divides successes with a JSΔ alone

MOST_RANGES = 100  # of thresholds in one statement
MARGIN, TINY = 1e-12, 1e-300  # by which a threshold in SQL may be off, relative and at 0

Whole = NDArray[np.unsignedinteger]
WIDTHS = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
DOUBLE = np.dtype("<f8")
# Of blobs that are no whole numbers; float32 where no threshold decides, and of evaluators as in rows.
FLOATS: dict[str, np.dtype[Any]] = {
    "js_delta": DOUBLE, "js_of_mean": DOUBLE, "js_attacked": DOUBLE, "confidence": FLOAT,
    **dict.fromkeys(BY_EVALUATOR, FLOAT),
}  # fmt: skip
JS_DELTA = BLOBS.index("js_delta")


class Segment(NamedTuple):
    """Attempts of one evaluation that are alike in success and in having a JSΔ, ascending by it.

    A column that is not loaded, or that the store lacks, is None. (A tuple, since a query makes tens of
    thousands.)

    Attributes:
        low, high: the smallest and the largest JSΔ; None where the attempts have none.
        sample_index, label_pair, n_right: ``(n,)``; a label pair is source label · classes + target label.
        js_delta: ``(n,)``, NaN where there is none.
        n_at_target, n_at_target_adv, n_right_adv, confidence, js_of_mean, js_attacked: ``(n,)``.
        member_js, js_of_mean_without: ``(n, evaluators)``.
    """

    n: int
    success: bool
    low: float | None
    high: float | None
    sample_index: Whole | None = None
    label_pair: Whole | None = None
    n_right: Whole | None = None
    js_delta: NDArray[np.float64] | None = None
    n_at_target: Whole | None = None
    n_at_target_adv: Whole | None = None
    n_right_adv: Whole | None = None
    confidence: NDArray[np.float32] | None = None
    js_of_mean: NDArray[np.float64] | None = None
    js_attacked: NDArray[np.float64] | None = None
    member_js: NDArray[np.float32] | None = None
    js_of_mean_without: NDArray[np.float32] | None = None

    @property
    def is_defined(self) -> bool:
        """Whether the attempts have a JSΔ."""
        return self.low is not None

    def count_below(self, beta: float) -> int:
        """Return how many attempts, which come first, have a JSΔ below a threshold."""
        if self.low is None or self.high is None or self.low >= beta:
            return 0
        if self.high < beta:
            return self.n
        assert self.js_delta is not None
        return int(np.searchsorted(self.js_delta, beta, side="left"))


def read_attempts(
    reader: Reader, *, evaluation_id: int, attack_id: int, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Return columns of ``sample`` and ``score`` for an evaluation's attempts, in the order of their keys.

    The two tables are read side by side and matched here. PostgreSQL, whose statistics lag behind, expects
    one row of their join and goes through 5,000 × 5,000 of them.

    Args:
        names: some of ``OF_SAMPLE`` and ``OF_SCORE``; ``success`` as it counts (``outside.py``).

    Returns:
        By name, ``(n,)``; NaN where the store has no value.
    """
    return _read(reader, evaluation_id, attack_id, names)[0]


def _read(
    reader: Reader, evaluation_id: int, attack_id: int, names: Sequence[str], packed: Sequence[str] = ()
) -> tuple[dict[str, NDArray[np.float64]], dict[str, NDArray[np.float32]]]:
    of_sample, of_score = ([n for n in names if n in known] for known in (OF_SAMPLE, OF_SCORE))
    samples, _ = _read_table(reader, "sample", ("attack_id", attack_id), of_sample)
    scores, by_evaluator = _read_table(reader, "score", ("evaluation_id", evaluation_id), of_score, packed)
    mine, theirs = (table[:, 0] * (1 << 20) + table[:, 1] for table in (samples, scores))
    if not np.array_equal(mine, theirs):  # unfinished or damaged: a row without its other half is left out
        _, of_samples, of_scores = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
        samples, scores = samples[of_samples], scores[of_scores]
        by_evaluator = [values[of_scores] for values in by_evaluator]
    columns = iter(samples[:, 2:].T), iter(scores[:, 2:].T)
    plain = {name: next(columns[name in OF_SCORE]) for name in names}
    return plain, dict(zip(packed, by_evaluator, strict=True))


def _read_table(
    reader: Reader, table: str, parent: tuple[str, int], names: Sequence[str], packed: Sequence[str] = ()
) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
    """Return a table's rows ``(n, 2 + names)``, the key first, and packed columns ``(n, evaluators)``.

    Args:
        parent: the column with the id of the rows' run, and the id.
    """
    columns = (COUNTED if name == "success" else name for name in names)
    sql = (
        f"SELECT {', '.join((*KEY, *columns, *packed))} FROM {table} WHERE {parent[0]} = :parent_id "  # noqa: S608 the schema's
        f"ORDER BY {', '.join(KEY)}"
    )
    width = len(KEY) + len(names)
    arrays: list[NDArray[np.float64]] = [np.empty((0, width))]
    blobs: list[list[NDArray[np.float32]]] = [[] for _ in packed]
    for rows in fetch_batches(reader, sql, parent_id=parent[1]):
        if packed:
            plain = list(zip(*rows, strict=True))
            for found, values in zip(blobs, plain[width:], strict=True):
                found.append(unpack(values))
            arrays.append(np.array(plain[:width], dtype=np.float64).T)
        else:
            arrays.append(np.array(rows, dtype=np.float64).reshape(-1, width))  # None becomes NaN
    return np.concatenate(arrays), [join_unpacked(found) for found in blobs]


def make_segments(reader: Reader, *, evaluation_id: int, attack_id: int, n_classes: int) -> list[Segment]:
    """Return an evaluation's segments, from its rows."""
    names = (*KEY, "source_label", "target_label", "success", *(name for name in PLAIN if name not in KEY))
    attempts, packed = _read(reader, evaluation_id, attack_id, names, BY_EVALUATOR)
    js_delta, success = attempts["js_delta"], attempts["success"]
    undefined = np.isnan(js_delta)
    order = np.lexsort(
        (attempts["requested_target"], attempts["sample_index"], js_delta, undefined, -success)
    )
    attempts["label_pair"] = attempts["source_label"] * n_classes + attempts["target_label"]
    columns = {name: _column(name, attempts.get(name, packed.get(name)), order) for name in BLOBS}
    js_delta, kind = js_delta[order], (DIVIDED * success + undefined)[order]
    starts = np.flatnonzero(np.diff(kind, prepend=-1)).tolist()
    pieces = []
    for first, end in pairwise([*starts, len(kind)]):
        most = SEGMENT_ROWS if kind[first] == DIVIDED else UNDIVIDED_ROWS
        pieces += [slice(start, min(start + most, end)) for start in range(first, end, most)]
    return [
        Segment(
            n=piece.stop - piece.start,
            success=bool(kind[piece.start] >= DIVIDED),
            low=None if kind[piece.start] % 2 else float(js_delta[piece.start]),
            high=None if kind[piece.start] % 2 else float(js_delta[piece.stop - 1]),
            **{name: None if column is None else column[piece] for name, column in columns.items()},
        )
        for piece in pieces
    ]


def fetch_segments(
    reader: Reader,
    stored: Mapping[int, int],
    names: Collection[str],
    *,
    betas: Sequence[float] = (),
    wanted: str = "1 = 1",
) -> dict[int, list[Segment]]:
    """Return the stored segments of evaluations, by id; what is read is checked.

    Args:
        stored: the evaluations' ids, with the checksum of their segments' numbers.
        names: columns to load, of ``BLOBS``.
        betas: thresholds for which ``count_below`` must work; ``js_delta`` is loaded where it needs that.
        wanted: which segments are returned: a condition in SQL, without values from outside.

    Raises:
        StoreError: one of them is altered or missing.
    """
    found: dict[int, list[Segment]] = {evaluation_id: [] for evaluation_id in stored}
    if not found:
        return found
    inside = " OR ".join(
        f"js_delta_min < {rounded_up(high)!r} AND js_delta_max >= {rounded_down(low)!r}"
        for low, high in _ranges(betas)
    )
    columns = {place: name for place, name in enumerate(BLOBS) if name in names}
    is_partly = bool(inside) and "js_delta" not in names
    if is_partly:
        columns[JS_DELTA] = f"CASE WHEN success = 1 AND ({inside}) THEN js_delta END"
    blobs = [f"CASE WHEN {wanted} THEN {column} END" for column in columns.values()]
    statement = (
        f"SELECT {', '.join(('evaluation_id', *NUMBERS, wanted, 'checksums', *blobs))} "  # noqa: S608
        f"FROM score_segment WHERE evaluation_id IN ({', '.join(map(str, found))}) "
        "ORDER BY evaluation_id, position"
    )
    rows = fetch_many(reader, statement)
    numbers: dict[int, list[tuple[float | int | None, ...]]] = {each: [] for each in stored}
    for row in rows:
        numbers[row[0]].append(row[1 : 1 + len(NUMBERS)])
    for evaluation_id, expected in stored.items():
        if checksum_rows(numbers[evaluation_id]) != expected:
            raise_altered(evaluation_id)
    for evaluation_id, _, n, success, low, high, is_wanted, checksums, *loaded in rows:
        if not is_wanted:
            continue
        of_segment = dict(zip(columns, loaded, strict=True))
        if is_partly and of_segment[JS_DELTA] is None:
            del of_segment[JS_DELTA]
        check_blobs(evaluation_id, checksums, of_segment)
        values: list[NDArray[Any] | None] = [None] * len(BLOBS)
        for place, blob in of_segment.items():
            if blob is not None:
                values[place] = _loaded(BLOBS[place], blob, n)
        found[evaluation_id].append(Segment(n, success == 1, low, high, *values))
    return found


def rounded_up(beta: float) -> float:
    """Return a number above β for use in SQL: SQLite reads some literals as their neighbours."""
    return beta * (1 + MARGIN) + TINY


def rounded_down(beta: float) -> float:
    """Return a number below β for use in SQL; see :func:`rounded_up`."""
    return beta * (1 - MARGIN) - TINY


def _ranges(betas: Sequence[float]) -> list[tuple[float, float]]:
    """Return at most ``MOST_RANGES`` ranges that cover the thresholds."""
    ordered = sorted(betas)
    size = -(-len(ordered) // MOST_RANGES) or 1
    return [
        (some[0], some[-1])
        for start in range(0, len(ordered), size)
        if (some := ordered[start : start + size])
    ]


def _loaded(name: str, blob: bytes, n: int) -> NDArray[Any]:
    """Return a stored column of ``n`` attempts."""
    if name not in FLOATS:
        return np.frombuffer(blob, WIDTHS[len(blob) // n])
    values: NDArray[Any] = np.frombuffer(blob, FLOATS[name])
    return values.reshape(n, -1) if name in BY_EVALUATOR else values


def _column(name: str, values: NDArray[Any] | None, order: NDArray[np.intp]) -> NDArray[Any] | None:
    """Return a column as it is stored, ordered; None where rows lack a value."""
    if values is None or (name in BY_EVALUATOR and not values.shape[1]):
        return None
    if name != "js_delta" and np.isnan(values).any():
        return None
    return values[order].astype(FLOATS[name]) if name in FLOATS else _narrowed(values[order])


def _narrowed(values: NDArray[np.float64]) -> Whole:
    """Return whole numbers in the narrowest unsigned type that holds the largest."""
    largest = int(values.max(initial=0))
    narrowed: Whole = values.astype(np.min_scalar_type(largest).newbyteorder("<"))
    return narrowed
