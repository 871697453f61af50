"""Columns: segments and counts by image of evaluations, read, or made from rows where none are stored."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple

from jsdelta_db.queries.selection import EvaluationInfo
from jsdelta_db.store.checksums import checksum, raise_altered
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
    """Yield each evaluation's segments, in order; segments that are not stored are made from rows.

    Args:
        names: columns to load (see ``BLOBS``).
        betas: thresholds for which ``count_below`` must work; ``js_delta`` is loaded where it needs that.
    """
    wanted = "success = 1" if successes_only else "1 = 1"
    stored = fetch_segments(reader, find_stored(reader, evaluations), names, betas=betas, wanted=wanted)
    for each in evaluations:
        segments = stored.get(each.id)
        if segments is None:
            segments = [s for s in make_segments_of(reader, each) if s.success or not successes_only]
        yield each, segments


def make_segments_of(reader: Reader, evaluation: EvaluationInfo) -> list[Segment]:
    """Return an evaluation's segments, made from its rows."""
    return make_segments(
        reader,
        evaluation_id=evaluation.id,
        attack_id=evaluation.attack_id,
        n_classes=len(evaluation.classes),
    )


def find_stored(reader: Reader, evaluations: Iterable[EvaluationInfo]) -> dict[int, int]:
    """Return the ids of those evaluations that are stored as columns, with their segments' checksum."""
    stored = dict(fetch(reader, "SELECT evaluation_id, segments_crc32 FROM image_count"))
    return {each.id: stored[each.id] for each in evaluations if each.id in stored}


class Counted(NamedTuple):
    """Counts of an evaluation, from which fractions and their intervals are computed.

    Attributes:
        successes: the segments that can hold a JSΔ below a threshold.
    """

    evaluation: EvaluationInfo
    counts: ImageCounts
    successes: Sequence[Segment]


def read_counted(
    reader: Reader, evaluations: Sequence[EvaluationInfo], betas: Sequence[float]
) -> Iterator[Counted]:
    """Yield the counts of evaluations, in order; counts that are not stored are made from rows."""
    counts = _fetch_counts(reader, [each.id for each in evaluations])
    below = f"success = 1 AND js_delta_min < {rounded_up(max(betas))!r}"
    checksums = {evaluation_id: of_segments for evaluation_id, (_, of_segments) in counts.items()}
    segments = fetch_segments(reader, checksums, ["sample_index"], betas=betas, wanted=below)
    for each in evaluations:
        if each.id in counts:
            yield Counted(each, counts[each.id][0], segments[each.id])
        else:
            made = make_segments_of(reader, each)
            yield Counted(each, count_images(made), [segment for segment in made if segment.success])


def _fetch_counts(reader: Reader, ids: Collection[int]) -> dict[int, tuple[ImageCounts, int]]:
    """Return the stored counts by image, each with the checksum of the evaluation's segments.

    Raises:
        StoreError: one of them is altered.
    """
    if not ids:
        return {}
    statement = (
        f"SELECT evaluation_id, {', '.join(ImageCounts._fields)}, crc32, segments_crc32 "  # noqa: S608 ours
        f"FROM image_count "
        f"WHERE evaluation_id IN ({', '.join(map(str, ids))})"
    )
    found = {}
    for evaluation_id, *values, crc32, of_segments in fetch_many(reader, statement):
        counts = ImageCounts(*values)
        numbers = evaluation_id, counts.n_undefined, counts.bits
        if checksum(numbers, (counts.success, counts.failure)) != crc32:
            raise_altered(evaluation_id)
        found[evaluation_id] = counts, of_segments
    return found
