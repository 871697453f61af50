"""Strategies of the property tests."""

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

# Finite float32 logits, from equal ones to those whose probabilities underflow.
LOGIT = st.floats(-1e4, 1e4, width=32)

# Sizes of the ball, from below one float16 step to the whole range.
EPS = st.one_of(
    st.integers(1, 255).map(lambda k: k / 255),
    st.floats(2.0**-22, 1.0),
)

# The norms' balls, each with sizes that make sense in it.
BALL_SIZES = st.one_of(
    st.tuples(st.just("linf"), EPS),
    st.tuples(st.just("l2"), st.floats(2.0**-12, 8.0)),
)

# Pixels of any kind: bytes over 255, ends, and arbitrary float32.
PIXEL = st.one_of(
    st.integers(0, 255).map(lambda k: float(np.float32(k) / np.float32(255))),
    st.floats(0, 1, width=32),
)

LABELS = hnp.arrays(np.int64, st.integers(2, 120), elements=st.integers(0, 4))


@st.composite
def logit_pairs(draw, most_rows=6):
    """Two arrays of logits of one shape ``(n, classes)``."""
    shape = draw(st.tuples(st.integers(1, most_rows), st.integers(2, 12)))
    rows = hnp.arrays(np.float32, shape, elements=LOGIT)
    return draw(rows), draw(rows)


@st.composite
def labels_and_sizes(draw):
    """Labels, and sizes of parts that add up to their number."""
    labels = draw(LABELS)
    cuts = draw(st.lists(st.integers(1, len(labels) - 1), max_size=3, unique=True))
    edges = [0, *sorted(cuts), len(labels)]
    return labels, tuple(int(size) for size in np.diff(edges))


@st.composite
def counts(draw):
    """Successes and trials, at least one trial."""
    trials = draw(st.integers(1, 10**6))
    return draw(st.integers(0, trials)), trials


@st.composite
def image_pairs(draw):
    """Two images ``(1, 1, h, w)`` of one shape with pixels in [0, 1]."""
    shape = (1, 1, *draw(st.tuples(st.integers(1, 4), st.integers(1, 4))))
    images = hnp.arrays(np.float32, shape, elements=PIXEL)
    return draw(images), draw(images)


@st.composite
def clustered_rows(draw):
    """Which image each row shows, which rows count, and which of those are hits."""
    n = draw(st.integers(1, 40))
    image = draw(hnp.arrays(np.int64, n, elements=st.integers(0, 15)))
    trials = draw(hnp.arrays(np.bool_, n))
    return image, trials & draw(hnp.arrays(np.bool_, n)), trials
