"""Stored segments and counts of evaluations, read for queries; what is not stored is made from rows."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from jsdelta_db.queries.selection import EvaluationInfo
from jsdelta_db.store.image_counts import ImageCounts, count_images
from jsdelta_db.store.reading import Reader, fetch, fetch_many
from jsdelta_db.store.segments import Segment, fetch_segments, make_segments, rounded_up


def read_segments(
    reader: Reader,
    evaluations: Sequence[EvaluationInfo],
    names: Collection[str],
    *,
    betas: Sequence[float] = (),
    successes_only: bool = False,
) -> Iterator[tuple[EvaluationInfo, list[Segment]]]:
    """Yield each evaluation's segments, in order; what is not stored as columns is made from rows.

    Args:
        names: columns to read (see ``BLOBS``).
        betas: thresholds for which ``count_below`` must work; ``js_delta`` is read where it takes that.
    """
    wanted = "success = 1" if successes_only else "1 = 1"
    stored = fetch_segments(reader, list_stored(reader, evaluations), names, betas=betas, wanted=wanted)
    for each in evaluations:
        segments = stored.get(each.id)
        if segments is None:
            segments = [s for s in make_segments_of(reader, each) if s.success or not successes_only]
        yield each, segments


def make_segments_of(reader: Reader, evaluation: EvaluationInfo) -> list[Segment]:
    """Return the segments of an evaluation that queries know, from its rows."""
    return make_segments(
        reader,
        evaluation_id=evaluation.id,
        attack_id=evaluation.attack_id,
        n_classes=len(evaluation.classes),
    )


def list_stored(reader: Reader, evaluations: Iterable[EvaluationInfo]) -> list[int]:
    """Return which evaluations, by id, are stored as columns."""
    stored = {evaluation_id for (evaluation_id,) in fetch(reader, "SELECT evaluation_id FROM image_count")}
    return [each.id for each in evaluations if each.id in stored]


class Counted(NamedTuple):
    """What fractions and their intervals need of an evaluation.

    Attributes:
        successes: those segments that can hold a JSΔ below a threshold.
    """

    evaluation: EvaluationInfo
    counts: ImageCounts
    successes: Sequence[Segment]


def read_counted(
    reader: Reader, evaluations: Sequence[EvaluationInfo], betas: Sequence[float]
) -> Iterator[Counted]:
    """Yield evaluations in order; what is not stored is made from rows."""
    counts = _fetch_counts(reader, [each.id for each in evaluations])
    below = f"success = 1 AND js_delta_min < {rounded_up(max(betas))!r}"
    segments = fetch_segments(reader, counts, ["sample_index"], betas=betas, wanted=below)
    for each in evaluations:
        if each.id in counts:
            yield Counted(each, counts[each.id], segments[each.id])
        else:
            made = make_segments_of(reader, each)
            yield Counted(each, count_images(made), [segment for segment in made if segment.success])


def _fetch_counts(reader: Reader, ids: Collection[int]) -> dict[int, ImageCounts]:
    if not ids:
        return {}
    statement = (
        f"SELECT evaluation_id, {', '.join(ImageCounts._fields)} FROM image_count "  # noqa: S608 numbers of ours
        f"WHERE evaluation_id IN ({', '.join(map(str, ids))})"
    )
    return {evaluation_id: ImageCounts(*values) for evaluation_id, *values in fetch_many(reader, statement)}
