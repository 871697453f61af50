"""Counts by image: packed as narrow as they fit, and added up without loss."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jsdelta_db.store.image_counts import count_images, sum_counts
from jsdelta_db.store.segments import Segment


def _segment(index, *, success, low=0.1):
    return Segment(len(index), success, low, low, sample_index=np.asarray(index, dtype=np.uint16))


attempts = st.lists(st.integers(0, 40), max_size=60)


@given(st.lists(st.tuples(attempts, attempts), max_size=6))
def test_sums_are_those_of_counting_one_by_one(evaluations):
    """Whatever their widths and lengths, packed counts add up to what every attempt says."""
    counted = [count_images([_segment(s, success=True), _segment(f, success=False)]) for s, f in evaluations]
    for place, name in enumerate(("success", "failure")):
        total = sum_counts((each.bits, getattr(each, name)) for each in counted)
        expected = [sum(each[place].count(image) for each in evaluations) for image in range(len(total))]
        assert total.tolist() == expected
        assert all(image < len(total) for each in evaluations for image in each[place])


@pytest.mark.parametrize(("most", "bits"), [(1, 1), (2, 8), (255, 8), (256, 16), (65_536, 32)])
def test_a_count_takes_the_bits_it_needs(most, bits):
    """The largest count of an image decides for all."""
    counts = count_images([_segment([3] * most, success=True), _segment([0], success=False)])
    assert counts.bits == bits
    assert sum_counts([(bits, counts.success)])[:4].tolist() == [0, 0, 0, most]
    assert sum_counts([(bits, counts.failure)])[0] == 1


def test_more_evaluations_than_a_byte_can_count():
    """Bits are summed in bytes, and no sum runs over."""
    counts = count_images([_segment([5], success=True)])
    assert sum_counts([(counts.bits, counts.success)] * 600)[5] == 600


def test_attempts_without_js_delta_belong_to_no_image():
    """They are counted, all images together."""
    counts = count_images(
        [_segment([1, 2, 2], success=True, low=None), _segment([4], success=False, low=None)]
    )
    assert counts == (4, 1, b"", b"")
    assert sum_counts([]).tolist() == []
