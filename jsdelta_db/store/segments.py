"""Segments: a finished evaluation's attempts as columns, which queries read instead of rows.

Ten million rows take over a second to scan and far longer to group. The same attempts, ordered by JSΔ and
cut into segments with their smallest and largest JSΔ, answer "how many are below β" by a sum over segments;
only one that β falls into is opened. So the numbers are exact for every β. Groups by label and
``--population`` count attempt by attempt (``queries/tally.py``).
"""

from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jsdelta_db.store.checksums import check_blobs, checksum_rows, raise_altered
from jsdelta_db.store.outside import COUNTED
from jsdelta_db.store.reading import Reader, fetch_batches, fetch_many

SEGMENT_ROWS = 1024  # of successes with a JSΔ: 8 kB of it are read where β falls into a segment
UNDIVIDED_ROWS = 1 << 16  # of other attempts, into which no β falls
BLOBS = ("sample_index", "label_pair", "n_right", "js_delta")
NUMBERS = ("position", "n", "success", "js_delta_min", "js_delta_max")
KEY = ("sample_index", "requested_target")
OF_SAMPLE = (*KEY, "source_label", "target_label", "success", "confidence", "linf", "l2", "stability")
OF_SCORE = ("js", "js_of_mean", "js_delta", "js_attacked", "n_right", "n_at_target", "n_at_target_adv")

DIVIDED = 2  # kind = 2·success + (JSΔ undefined): β divides successes with a JSΔ alone

MOST_RANGES = 100  # of thresholds in one statement
MARGIN, TINY = 1e-12, 1e-300  # by which a threshold in SQL may be off, relative and at 0

Whole = NDArray[np.unsignedinteger]
WIDTHS = {width: np.dtype(f"<u{width}") for width in (1, 2, 4, 8)}
DOUBLE = np.dtype("<f8")


class Segment(NamedTuple):
    """Attempts of one evaluation that are alike in success and in having a JSΔ, ascending by it.

    A column that is not loaded is None. (A tuple, since a query makes tens of thousands.)

    Attributes:
        low, high: the smallest and the largest JSΔ; None where the attempts have none.
        sample_index, label_pair, n_right: ``(n,)``; a label pair is source label · classes + target label.
        js_delta: ``(n,)``, NaN where there is none.
    """

    n: int
    success: bool
    low: float | None
    high: float | None
    sample_index: Whole | None = None
    label_pair: Whole | None = None
    n_right: Whole | None = None
    js_delta: NDArray[np.float64] | None = None

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
    samples = _read_table(reader, "sample", "attack_id", attack_id, [n for n in names if n in OF_SAMPLE])
    scores = _read_table(reader, "score", "evaluation_id", evaluation_id, [n for n in names if n in OF_SCORE])
    mine, theirs = (table[:, 0] * (1 << 20) + table[:, 1] for table in (samples, scores))
    if not np.array_equal(mine, theirs):  # unfinished or damaged: a row without its other half is left out
        _, of_samples, of_scores = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
        samples, scores = samples[of_samples], scores[of_scores]
    columns = iter(samples[:, 2:].T), iter(scores[:, 2:].T)
    return {name: next(columns[name in OF_SCORE]) for name in names}


def _read_table(
    reader: Reader, table: str, parent: str, parent_id: int, names: Sequence[str]
) -> NDArray[np.float64]:
    """Return a table's rows ``(n, 2 + names)``, the key first."""
    columns = (COUNTED if name == "success" else name for name in names)
    sql = (
        f"SELECT {', '.join((*KEY, *columns))} FROM {table} WHERE {parent} = :parent_id "  # noqa: S608 the schema's
        f"ORDER BY {', '.join(KEY)}"
    )
    width = len(KEY) + len(names)
    batches = fetch_batches(reader, sql, parent_id=parent_id)
    arrays = [np.array(rows, dtype=np.float64).reshape(-1, width) for rows in batches]  # None becomes NaN
    return np.concatenate([np.empty((0, width)), *arrays])


def make_segments(reader: Reader, *, evaluation_id: int, attack_id: int, n_classes: int) -> list[Segment]:
    """Return an evaluation's segments, from its rows."""
    names = (*KEY, "source_label", "target_label", "success", "n_right", "js_delta")
    attempts = read_attempts(reader, evaluation_id=evaluation_id, attack_id=attack_id, names=names)
    index, target, source, reached, success, n_right, js_delta = (attempts[name] for name in names)
    undefined = np.isnan(js_delta)
    order = np.lexsort((target, index, js_delta, undefined, -success))
    sample_index = _narrowed(index[order])
    label_pair = _narrowed((source * n_classes + reached)[order])
    right = _narrowed(n_right[order])
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
            sample_index=sample_index[piece],
            label_pair=label_pair[piece],
            n_right=right[piece],
            js_delta=js_delta[piece],
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
    js_delta = f"CASE WHEN success = 1 AND ({inside}) THEN js_delta END" if inside else "NULL"
    columns = [name if name in names else "NULL" for name in BLOBS[:-1]]
    columns.append("js_delta" if "js_delta" in names else js_delta)
    blobs = [f"CASE WHEN {wanted} THEN {column} END" for column in columns]
    statement = (
        f"SELECT evaluation_id, {', '.join(NUMBERS)}, {wanted}, checksums, {', '.join(blobs)} "  # noqa: S608
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
        check_blobs(evaluation_id, checksums, loaded)
        image, pair, n_right, js_delta = loaded
        segment = Segment(
            n, success == 1, low, high, _whole(image, n), _whole(pair, n), _whole(n_right, n),
            None if js_delta is None else np.frombuffer(js_delta, DOUBLE),
        )  # fmt: skip
        found[evaluation_id].append(segment)
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


def _whole(blob: bytes | None, n: int) -> Whole | None:
    return None if blob is None else np.frombuffer(blob, WIDTHS[len(blob) // n])


def _narrowed(values: NDArray[np.float64]) -> Whole:
    """Return whole numbers in the narrowest unsigned type that holds the largest."""
    largest = int(values.max(initial=0))
    narrowed: Whole = values.astype(np.min_scalar_type(largest).newbyteorder("<"))
    return narrowed
