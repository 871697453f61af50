"""The four constructions on networks whose gradients are known, and the usual sizes."""

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.attacks import prepare
from jsdelta_db.compute.constructions import check_ball, choose_partners, configure, construct
from jsdelta_db.compute.constructions.build import choose_labels
from jsdelta_db.compute.constructions.features import penultimate
from jsdelta_db.compute.data import Split
from jsdelta_db.config.construction import CONSTRUCTION_KINDS, ConstructionConfig, ConstructionRequest
from jsdelta_db.errors import ModelError, UsageError

CPU = torch.device("cpu")
HALF_STEP = 2.0**-12  # rounding to float16 in [0.5, 1)


@pytest.fixture
def split() -> Split:
    """Twelve grey images of 4×4 with labels 0, 1, 2 and gaps in their index."""
    draws = torch.Generator().manual_seed(0)
    images = 0.4 + 0.2 * torch.rand(12, 1, 4, 4, generator=draws)
    return Split(images, torch.arange(12) % 3, np.arange(12, dtype=np.int64) * 5 + 2)


@pytest.fixture
def linear(split):
    """A network whose features are the pixels and whose logits are linear in them."""
    torch.manual_seed(0)
    return prepare(nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval(), split.images)


def config(kind, **changes):
    """A short construction."""
    ball = {"eps": 0.1} if kind in ("rand", "det") else {}
    return ConstructionConfig(**{"kind": kind, "steps": 4, "step_size": 0.02, **ball, **changes})


def flat(images) -> np.ndarray:
    """Return images as rows of float64."""
    return np.asarray(images, dtype=np.float64).reshape(len(images), -1)


ROWS = np.arange(12, dtype=np.int64)


@pytest.mark.parametrize("kind", ["robust", "nonrobust"])
def test_features_that_are_pixels_are_walked_to_in_a_straight_line(kind, linear, split):
    """With h(x) = x, n steps of s go from the other image straight to x: s·n of the way, the label stays."""
    images, labels = construct(linear, split, ROWS, 3, config(kind))
    x = flat(split.images)
    start = x[choose_partners(split, ROWS, 0)]
    way = x - start
    expected = start + 0.08 * way / np.linalg.norm(way, axis=1, keepdims=True)
    assert images.dtype == np.float16
    np.testing.assert_allclose(flat(images), expected, atol=HALF_STEP + 1e-6)
    assert labels.tolist() == split.labels.tolist()


def test_more_steps_bring_the_features_closer(split):
    """The distance to the wanted features falls with the steps, on a network with a hidden layer, too."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    model = prepare(network, split.images)
    features = penultimate(model.frozen, split.images[:1])
    wanted = features(split.images)
    starts = split.images[torch.from_numpy(choose_partners(split, ROWS, 0))]
    distances = [float((features(starts) - wanted).norm(dim=1).mean())]
    for steps in (5, 20, 100):
        images, _ = construct(model, split, ROWS, 3, config("robust", steps=steps, step_size=0.01))
        distances.append(float((features(torch.from_numpy(images).float()) - wanted).norm(dim=1).mean()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 0.1 * distances[0]


@pytest.mark.parametrize("steps", [2, 50])
def test_det_walks_towards_the_next_label_and_stays_in_the_ball(steps, split):
    """Two linear logits have one direction: x moves min(ε, n·s) along w_t − w_y, and the label is y + 1."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2)).eval()
    two = Split(split.images, split.labels % 2, split.index)
    images, labels = construct(prepare(network, two.images), two, ROWS, 2, config("det", steps=steps))
    weight = network[1].weight.detach().double().numpy()
    y = two.labels.numpy()
    way = weight[1 - y] - weight[y]
    expected = flat(two.images) + min(0.1, 0.02 * steps) * way / np.linalg.norm(way, axis=1, keepdims=True)
    np.testing.assert_allclose(flat(images), expected, atol=2 * HALF_STEP)
    assert labels.tolist() == (1 - y).tolist()


@pytest.mark.parametrize("kind", ["rand", "det"])
def test_what_is_stored_is_inside_the_ball(kind, linear, split):
    """After rounding to float16 no image is further than ε from x."""
    images, _ = construct(linear, split, ROWS, 3, config(kind, steps=60))
    lengths = np.linalg.norm(flat(images) - flat(split.images), axis=1)
    assert lengths.max() <= 0.1
    assert lengths.min() > 0.09


def test_a_ball_narrower_than_the_rounding_is_refused():
    """float16 cannot hold an ε below some rounding steps; the message says from where it can."""
    with pytest.raises(UsageError, match=r"--eps 0.001 .* from 0.0541"):
        check_ball(config("det", eps=0.001), 3 * 32 * 32)
    check_ball(config("det", eps=0.5), 3 * 32 * 32)
    check_ball(config("robust"), 3 * 32 * 32)


def test_white_and_black_stay_in_range(linear):
    """Images at the ends of [0, 1] are moved inside it."""
    extremes = Split(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 4, 4).clone(), torch.tensor([0, 1]),
                     np.array([0, 1]))  # fmt: skip
    for kind in CONSTRUCTION_KINDS:
        images, _ = construct(linear, extremes, np.array([0, 1]), 3, config(kind, steps=20))
        assert images.min() >= 0.0
        assert images.max() <= 1.0


def test_partners_are_other_images_keyed_by_seed_and_image(split):
    """Nobody starts from itself; a subset of the rows, or another batch, changes nothing; a seed does."""
    partners = choose_partners(split, ROWS, 0)
    assert not (partners == ROWS).any()
    assert partners[[3, 7]].tolist() == choose_partners(split, np.array([3, 7]), 0).tolist()
    assert partners.tolist() != choose_partners(split, ROWS, 1).tolist()


def test_rand_draws_labels_of_all_classes_keyed_by_seed_and_image():
    """Labels are uniform over all classes, the own included, whatever else is in the batch."""
    n = 3000
    large = Split(torch.zeros(n, 1, 1, 1), torch.zeros(n, dtype=torch.int64), np.arange(n, dtype=np.int64))
    rows = np.arange(n, dtype=np.int64)
    labels = choose_labels("rand", large, rows, 3, 0)
    assert np.bincount(labels, minlength=3) / n == pytest.approx([1 / 3] * 3, abs=0.04)
    assert choose_labels("rand", large, rows[100:110], 3, 0).tolist() == labels[100:110].tolist()
    assert choose_labels("rand", large, rows, 3, 1).tolist() != labels.tolist()


@pytest.mark.parametrize("kind", CONSTRUCTION_KINDS)
def test_the_same_rows_give_the_same_bytes(kind, linear, split):
    """A batch depends on nothing that ran before it."""
    first = construct(linear, split, ROWS[:5], 3, config(kind))
    construct(linear, split, ROWS[5:], 3, config(kind))
    again = construct(linear, split, ROWS[:5], 3, config(kind))
    assert first[0].tobytes() == again[0].tobytes()
    assert first[1].tolist() == again[1].tolist()


def test_penultimate_features_are_what_the_last_layer_gets():
    """They are the input of the last linear layer that is called; a network without one is refused."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 3)).eval()
    x = torch.rand(4, 1, 4, 4)
    torch.testing.assert_close(penultimate(model, x)(x), model[:3](x))
    with pytest.raises(ModelError, match="no linear layer"):
        penultimate(nn.Sequential(nn.Conv2d(1, 3, 4), nn.Flatten()), x)


@pytest.mark.parametrize(
    ("kind", "root", "sizes"),
    [
        ("robust", "cifar10", (1000, 0.1, None)), ("nonrobust", "svhn", (1000, 0.1, None)),
        ("rand", "cifar10", (100, 0.1, 0.5)), ("det", "svhn", (100, 0.1, 0.5)),
        ("robust", "digits", (200, 0.01, None)), ("det", "digits", (40, 0.02, 0.2)),
    ],
)  # fmt: skip
def test_usual_sizes(kind, root, sizes):
    """Where nobody says, a construction is the paper's, and smaller for the digits."""
    made = configure(ConstructionRequest(kind), root)
    assert (made.steps, made.step_size, made.eps) == sizes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "bugs"}, "kind 'bugs' is not valid: must be robust, nonrobust, rand or det"),
        ({"steps": 0}, "steps 0 is not valid"),
        ({"step_size": 0.0}, "step_size 0.0 is not valid"),
        ({"step_size": float("nan")}, "step_size nan is not valid"),
        ({"images": 0}, "images 0 is not valid"),
        ({"eps": 0.5}, "does not fit a robust data set"),
        ({"kind": "det", "eps": None}, "does not fit a det data set"),
        ({"kind": "det", "eps": float("inf")}, "eps inf is not valid"),
        ({"seed": -1}, "seed -1 is not valid"),
        ({"dtype": "float8"}, "dtype 'float8' is not valid"),
        ({"device": "tpu"}, "device 'tpu' is not valid"),
    ],
)
def test_settings_that_make_no_sense(changes, message):
    """Each is refused with the value and what is valid."""
    with pytest.raises(UsageError, match=message):
        ConstructionConfig(**{"kind": "robust", "steps": 4, "step_size": 0.02, **changes})
