"""Labels of foreign samples: columns and one-hot rows are the numbers that they stand for."""

import numpy as np
import pytest

from tests.samples.foreign.cases import changed, check


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda label: label[:, None], "a column of shape (4, 1), read as one label a sample"),
        (lambda label: np.eye(10)[label], "one-hot of shape (4, 10), read as label numbers"),
        (lambda label: np.eye(10, dtype=bool)[label], "one-hot of shape (4, 10), read as label numbers"),
        (lambda label: label.astype(">i2"), None),
        (lambda label: label.astype(np.uint8), None),
    ],
    ids=["column", "one-hot", "one-hot bool", "big-endian", "bytes"],
)
def test_other_forms_are_the_same_labels(change, told, given, digits):
    """Both arrays come out as numbers, and a conversion of both is one line."""
    samples = check(changed(given, label=change, target_label=change), digits)
    assert samples.fingerprint == check(given, digits).fingerprint
    assert samples.conversions == (() if told is None else (f"label and target_label: {told}",))


def test_a_column_of_labels_without_targets_is_untargeted(given, digits):
    """No target_label beside a column of labels is no target for any sample."""
    samples = check(changed(given, label=lambda label: label[:, None], target_label=None), digits)
    assert samples.attempts.requested_target.tolist() == [-1] * 4
