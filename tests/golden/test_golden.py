"""Numbers written down, each with where it comes from and how far it may be off.

A number here changes only on purpose: stores hold what was made with the old one.
"""

import hashlib
import math
import pickle
from pathlib import Path

import numpy as np
import pytest

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import choose_attempts
from jsdelta_db.compute.attacks.perturb import start_noise
from jsdelta_db.compute.attacks.targets import choose_images
from jsdelta_db.compute.data.dataset import stratified_split
from jsdelta_db.compute.metrics import combine_baselines, compare_labels, js_divergence
from jsdelta_db.compute.metrics.divergence import log_probs
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.queries.statistics import wilson
from jsdelta_db.records import Attempts
from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.runs import ensure_dataset


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", Path("unused"))


# ---- the embedded data set: exact. Source: scikit-learn's load_digits(), whose 1,797 images have been
# the same since 2011; the splits by NumPy's Philox. First computed with scikit-learn 1.9, NumPy 2.4.

DIGITS_FINGERPRINT = "e6ad45c1c9199a7baed73d2ce63570fb0c64510c6fdcebc8a559b5b6af3f145c"
DIGITS_INDEX_SHA256 = {
    "train": "75f943332f165041ae71caff4bd1d6cac8ef73b64db8a14a99f0a1561b6a8b8c",
    "baseline": "a1a23126baed3bccfd81f6d082ef1bbc7493746bbedab6d6bcf2c0d17401510f",
    "attack": "dcc65e9038b03f46c05017c5046aa4d1ef6a11c2f4d407c1ef66252672976e28",
}


def test_digits_fingerprint(digits):
    """The digits are the same data set in every store: their uid is the start of this hash."""
    assert digits.fingerprint() == DIGITS_FINGERPRINT


def test_digits_uid_in_a_store(digits, tmp_path):
    """The row of the digits carries the first 16 digits of the fingerprint as its uid."""
    store = open_for_writing(f"sqlite:///{tmp_path / 'store.db'}")
    with store.transaction() as session:
        row = ensure_dataset(
            session, name=digits.name, classes=digits.classes, fingerprint=digits.fingerprint()
        )
    store.close()
    assert row.uid == "e6ad45c1c9199a7b"


@pytest.mark.parametrize("name", DIGITS_INDEX_SHA256)
def test_digits_split(digits, name):
    """Which images belong to which split is fixed for good."""
    index = digits.splits[name].index.astype("<i8").tobytes()
    assert DIGITS_INDEX_SHA256[name] == hashlib.sha256(index).hexdigest()


def test_first_targets(digits):
    """The first ten images of the attack split, their labels, and their random targets for seed 0."""
    split = digits.splits["attack"]
    attempts = choose_attempts("random", split.index[:10], split.labels.numpy()[:10], digits.classes, 0)
    assert attempts.sample_index.tolist() == [0, 2, 4, 5, 9, 10, 15, 16, 17, 19]
    assert attempts.source_label.tolist() == [0, 2, 4, 5, 9, 0, 5, 6, 7, 9]
    assert attempts.requested_target.tolist() == [3, 0, 3, 2, 1, 1, 4, 4, 8, 8]


def test_first_chosen_images(digits):
    """The five images that the smallest attacks take."""
    split = digits.splits["attack"]
    assert split.index[choose_images(split, 5)].tolist() == [85, 139, 865, 905, 1770]


# ---- starts of attacks: image 85 of label 0 towards 3, seed 0, in an image of 1×2×2. For linf these are
# the upper 24 bits of Philox' 32-bit words, as k·2⁻²³ − 1: exact. For l2 they also depend on NumPy's normal
# variates and on sums in float32: 1e-6. First computed with NumPy 2.4.

STARTS = [
    ("linf", 0, [-0.03601419925689697, 0.5338222980499268, -0.3608818054199219, 0.8107272386550903], 0),
    ("linf", 1, [-0.7824599742889404, -0.3700084686279297, 0.726488471031189, 0.8077648878097534], 0),
    ("l2", 0, [-0.3819769322872162, 0.44685670733451843, 0.07406549900770187, -0.5774164199829102], 1e-6),
    ("l2", 1, [0.01746821217238903, 0.10020804405212402, -0.19332337379455566, -0.3986108899116516], 1e-6),
]


@pytest.mark.parametrize(("norm", "restart", "expected", "tolerance"), STARTS)
def test_first_starts(norm, restart, expected, tolerance):
    """Where an image starts is fixed for good: attacks of years apart pair up, and a stop resumes."""
    attempt = Attempts(np.array([85]), np.array([0]), np.array([3]))
    start = start_noise(attempt, (1, 2, 2), AttackConfig(eps=0.1, norm=norm), restart)
    assert expected == pytest.approx(start.flatten().tolist(), rel=0, abs=tolerance)


def test_starts_are_the_words_of_philox():
    """The numbers above follow from the key's hash and the generator's raw words alone."""
    key = np.frombuffer(hashlib.blake2b(b"start/0/85/3/0", digest_size=16).digest(), dtype=np.uint64)
    raw = np.random.Philox(key=key).random_raw(2)
    words = [int(word) >> shift & 0xFFFFFFFF for word in raw for shift in (0, 32)]
    assert STARTS[0][2] == [(word >> 8) * 2**-23 - 1 for word in words]


CIFAR10_BASELINE_SHA256 = "16d8602c5b6e7dab7177e8931127181096f6a7cce8061d0d086bfaeb1b66deb9"


def test_real_cifar10_split(cifar10_dir):
    """CIFAR-10's baseline split: the first of its 5,000 indices and the hash of all of them."""
    labels = _cifar10_labels(cifar10_dir)
    _, baseline = stratified_split(labels, (45_000, 5_000), "cifar10")
    assert hashlib.sha256(baseline.astype("<i8").tobytes()).hexdigest() == CIFAR10_BASELINE_SHA256


def _cifar10_labels(folder):
    parts = []
    for i in range(1, 6):
        with (folder / "cifar-10-batches-py" / f"data_batch_{i}").open("rb") as file:
            parts.append(pickle.load(file, encoding="latin1")["labels"])
    return np.concatenate(parts).astype(np.int64)


# ---- divergences, by hand: JS = H(m) − (H(p) + H(q))/2 in bits. Tolerance 1e-15: rounding.

HALF_AGAINST_ONE = 1.5 - 0.75 * math.log2(3)  # p = (1/2, 1/2), q = (1, 0), m = (3/4, 1/4): 0.31128 bit
QUARTERS = 0.75 * math.log2(3) - 1  # p = (3/4, 1/4), q = (1/4, 3/4), m = (1/2, 1/2): 0.18872 bit
FAR = 1e4  # a difference of logits at which the smaller probability is exactly 0
LOG3 = math.log(3)


@pytest.mark.parametrize(
    ("p_logits", "q_logits", "bits", "digits_of_it"),
    [
        ((0, 0), (FAR, 0), HALF_AGAINST_ONE, 0.311278124459133),
        ((LOG3, 0), (0, LOG3), QUARTERS, 0.188721875540867),
    ],
)
def test_divergence_by_hand(p_logits, q_logits, bits, digits_of_it):
    """Two divergences that a pencil is enough for."""
    assert digits_of_it == pytest.approx(bits, abs=1e-15)
    log_p, log_q = (log_probs(np.array(logits, dtype=np.float64)) for logits in (p_logits, q_logits))
    assert bits == pytest.approx(float(js_divergence(log_p, log_q)), abs=1e-15)


# ---- a baseline by hand. Two images of label 0 give (1, 0) and (1/2, 1/2), two of label 1 give (0, 1)
# and (1/2, 1/2). The four pairs: 1, a, a, 0 with a = 0.31128, so ρ = (1 + 2a)/4. The images' means are
# (1 + a)/2 and a/2, 1/2 apart: variance 1/8 for each label, so SE² = 1/16 + 1/16. Tolerance 1e-15.


def test_baseline_by_hand():
    """ρ = 0.40564 bit with a standard error of 0.35355."""
    logits = np.array([[FAR, 0], [0, 0], [0, FAR], [0, 0]], dtype=np.float32)
    labels = np.array([0, 0, 1, 1])
    means = compare_labels(logits, labels, [(0, 1)])
    assert means[0, 1].rho == pytest.approx((1 + 2 * HALF_AGAINST_ONE) / 4, abs=1e-15)
    assert means[0, 1].rho == pytest.approx(0.405639062229566, abs=1e-14)
    assert math.sqrt(1 / 8) == pytest.approx(means[0, 1].standard_error, abs=1e-15)

    # With a second evaluator that is never moved: half of both.
    constant = np.zeros_like(logits)
    members = [means, compare_labels(constant, labels, [(0, 1)])]
    combined = combine_baselines(members, [logits, constant], labels)[0, 1]
    assert combined.rho == pytest.approx((1 + 2 * HALF_AGAINST_ONE) / 8, abs=1e-15)
    assert math.sqrt(1 / 8) / 2 == pytest.approx(combined.standard_error, abs=1e-15)
    # Its mean outputs are (3/4, 1/4), (1/2, 1/2), (1/4, 3/4), (1/2, 1/2).
    quarter_against_half = _entropy(5 / 8) - (_entropy(3 / 4) + 1) / 2
    assert (QUARTERS + 2 * quarter_against_half) / 4 == pytest.approx(combined.rho_of_mean, abs=1e-15)


def _entropy(p):
    """Entropy of (p, 1 − p) in bits."""
    return -p * math.log2(p) - (1 - p) * math.log2(1 - p)


# ---- Wilson's interval. Source: Newcombe 1998, "Two-sided confidence intervals for the single proportion",
# table I, method 3 (score): 81/263, 15/148, 0/20 and 1/29, to four digits.


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_as_published(successes, trials, low, high):
    """The published 95 % score intervals, to the four digits given."""
    assert (low, high) == pytest.approx(wilson(successes, trials), abs=5e-5)
