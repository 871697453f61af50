"""Attacks: closed forms, the ball, equal bytes, targets, success, and what is left untouched."""

import contextlib
import copy
import dataclasses
import itertools
import signal

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from jsdelta_db.attacks import (
    PreparedModel,
    choose_attempts,
    is_success,
    perturb,
    plan_chunk_size,
    targeted_pgd,
)
from jsdelta_db.attacks.perturb import apply_delta, fold_batch_norm, start_noise, to_stored_precision
from jsdelta_db.attacks.targets import choose_images, parse_label
from jsdelta_db.config import AttackConfig
from jsdelta_db.data import Split
from jsdelta_db.errors import UnknownNameError
from jsdelta_db.models.inference import forward, predict
from jsdelta_db.models.networks import CifarResNet, Normalized, SmallCNN, small_image_resnet, small_vit
from jsdelta_db.records import UNTARGETED, Attempts

CPU = torch.device("cpu")
CLASSES = tuple("abcdefghij")
EPS = 8 / 255


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    """Networks this small are slower on several threads, above all on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@contextlib.contextmanager
def time_limit(seconds):
    """Turn a hang into a failure."""

    def stop(number, frame):
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make_split(n, shape=(1, 4, 4), classes=10):
    """Images with black, white and grey pixels, and with gaps between their stable indices."""
    images = torch.rand(n, *shape, generator=_generator()).mul_(1.4).sub_(0.2).clamp_(0, 1)
    return Split(images, torch.arange(n) % classes, np.arange(n, dtype=np.int64) * 3 + 1)


class TwoSides(nn.Module):
    """Two classes by the side of a plane: logits w·x and −w·x."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(w)

    def forward(self, x):
        score = (x * self.w).flatten(1).sum(1)
        return torch.stack([score, -score], 1)


@pytest.fixture
def plane():
    """A linear model with no weight near 0, so that every pixel has a way to go."""
    signs = torch.where(torch.rand(1, 4, 4, generator=_generator(1)) < 0.5, -1.0, 1.0)
    return TwoSides(signs * (0.1 + torch.rand(1, 4, 4, generator=_generator(2))) / 16)


@pytest.fixture
def cnn():
    """A small CNN whose batch norms are not the identity, in train mode."""
    torch.manual_seed(0)
    model = Normalized(SmallCNN(10, 1, 8, width=4), (0.5,), (0.3,))
    return _stir_batch_norm(model).train()


def _stir_batch_norm(model):
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(generator=_generator(1))
            module.running_var.uniform_(0.5, 2.0, generator=_generator(2))
            nn.init.normal_(module.weight, 1.0, 0.2, generator=_generator(3))
    return model


def _attempts(split, n, classes=CLASSES, rule="random", seed=0):
    return choose_attempts(rule, split.index[:n], split.labels.numpy()[:n], classes, seed)


def run(model, split, attempts, config, chunk_size=8, prepared=None):
    """Attack one chunk the way judging.py does."""
    clean_logits = predict(model, split, CPU)
    return perturb(prepared or PreparedModel(model, CPU), split, attempts, clean_logits, config, chunk_size)


# ---- the closed form


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("target", [0, 1])
def test_pgd_ends_in_the_corner_of_the_box(plane, steps, target):
    """On a linear model the best x_adv is a corner of the ball and of [0, 1], and PGD ends there."""
    x = make_split(5).images
    noise = torch.zeros_like(x)
    x_adv = targeted_pgd(
        plane.requires_grad_(False), x, torch.full((5,), target), noise,
        eps=EPS, step_size=2.5 * EPS / steps, steps=steps,
    )  # fmt: skip
    direction = plane.w.sign() * (1 if target == 0 else -1)
    torch.testing.assert_close((x + EPS * direction).clamp(0, 1), x_adv, rtol=0, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_the_corner_is_reached_from_any_start(plane, seed):
    """The steps add up to 2.5 ε, which crosses the ball from any random start."""
    x = make_split(5).images
    noise = torch.rand(x.shape, generator=_generator(seed)) * 2 - 1
    x_adv = targeted_pgd(
        plane.requires_grad_(False), x, torch.zeros(5, dtype=torch.int64), noise,
        eps=EPS, step_size=2.5 * EPS / 20, steps=20,
    )  # fmt: skip
    torch.testing.assert_close((x + EPS * plane.w.sign()).clamp(0, 1), x_adv, rtol=0, atol=1e-6)


def test_pgd_is_the_plain_loop(cnn):
    """On a network the fast loop makes the steps of the textbook, one by one."""
    cnn.eval().requires_grad_(False)
    x = make_split(3, (1, 8, 8)).images
    target = torch.tensor([1, 2, 3])
    noise = torch.rand(x.shape, generator=_generator()) * 2 - 1
    expected = torch.min(torch.max(x + EPS * noise, (x - EPS).clamp(0)), (x + EPS).clamp(max=1))
    for _ in range(4):
        expected = expected.detach().requires_grad_()
        F.cross_entropy(cnn(expected), target, reduction="sum").backward()
        expected = expected.detach() - 0.01 * expected.grad.sign()
        expected = torch.min(torch.max(expected, (x - EPS).clamp(0)), (x + EPS).clamp(max=1))
    before = x.clone(), noise.clone(), target.clone()
    assert torch.equal(expected, targeted_pgd(cnn, x, target, noise, eps=EPS, step_size=0.01, steps=4))
    assert all(torch.equal(*pair) for pair in zip(before, (x, noise, target), strict=True))


def test_perturb_reaches_the_corner(plane):
    """The whole chain ends at the corner too, to the precision that is stored."""
    split = make_split(6, classes=2)
    samples = run(plane, split, _attempts(split, 6, ("a", "b")), AttackConfig(eps=EPS, steps=10))
    towards = np.where(samples.target_label == 0, 1, -1)[:, None, None, None]
    x = split.images.numpy()
    corner = np.clip(x + EPS * towards * plane.w.sign().detach().numpy(), 0, 1)
    np.testing.assert_allclose(corner - x, samples.delta, rtol=0, atol=EPS * 2**-10)


# ---- the ball


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (3, 4, 9), (2, 8, 8)])
@pytest.mark.parametrize("eps", [0.1 / 255, 1 / 255, 3 / 255, 5 / 255, 8 / 255, 0.1, 1.0])
def test_samples_stay_in_the_ball_and_in_range(n, shape, eps):
    """Exactly, in float64: no pixel moves by more than ε, and none leaves [0, 1]."""
    torch.manual_seed(0)
    split = make_split(n, shape, classes=3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(shape)), 3))
    samples = run(model, split, _attempts(split, n, tuple("abc")), AttackConfig(eps=eps, steps=3))
    x = split.images
    x_adv = apply_delta(x, torch.from_numpy(samples.delta))
    change = (x_adv.double() - x.double()).flatten(1)
    assert float(change.abs().max()) <= eps
    assert float(x_adv.min()) >= 0.0
    assert float(x_adv.max()) <= 1.0
    assert (np.float16, (n, *shape)) == (samples.delta.dtype, samples.delta.shape)
    assert samples.linf.max() <= eps
    np.testing.assert_allclose(change.abs().amax(1), samples.linf, rtol=1e-6)
    np.testing.assert_allclose(change.norm(dim=1), samples.l2, rtol=1e-6)


@pytest.mark.parametrize("eps", [1 / 255, 3 / 255, 8 / 255, 0.1])
def test_the_ball_is_used_to_its_rim(plane, eps):
    """Rounding to the stored precision costs less than a thousandth of ε."""
    split = make_split(4, classes=2)
    samples = run(plane, split, _attempts(split, 4, ("a", "b")), AttackConfig(eps=eps, steps=5))
    assert samples.linf.min() >= eps * (1 - 1e-3)


@pytest.mark.parametrize("eps", [1e-30, 1e-9, 2.0**-24, 2.0**-23, 1e-6])
def test_the_smallest_eps_stays_in_the_ball(eps):
    """However small ε is, rounding ends and stays in the ball."""
    x = torch.full((1, 1, 2, 2), 0.25)
    with time_limit(2):
        delta = to_stored_precision(x, x + 1e-3, eps)
    assert float((apply_delta(x, delta).double() - x.double()).abs().max()) <= eps


def test_delta_is_rounded_to_the_nearest_half():
    """Inside the ball each change is stored to half a float16 step."""
    x = torch.full((1, 1, 8, 8), 0.5)
    x_adv = x + (torch.rand(x.shape, generator=_generator()) - 0.5) * 0.06
    delta = to_stored_precision(x, x_adv, 0.05)
    assert torch.float16 == delta.dtype
    assert torch.equal((x_adv - x).to(torch.float16), delta)


# ---- what comes back


def test_what_is_reported_is_what_is_stored(cnn):
    """Logits, success and confidence are of x + stored delta, by the unfolded model in eval mode."""
    split = make_split(8, (1, 8, 8))
    attempts = _attempts(split, 8)
    samples = run(cnn, split, attempts, AttackConfig(eps=0.3, steps=8))
    x_adv = apply_delta(split.images, torch.from_numpy(samples.delta))
    logits = forward(cnn, x_adv)
    np.testing.assert_allclose(logits, samples.logits, rtol=0, atol=1e-5)
    clean = predict(cnn, split, CPU)
    right = clean.argmax(1) == attempts.source_label
    at_target = samples.logits.argmax(1) == attempts.requested_target
    assert (right & at_target).tolist() == samples.success.tolist()
    assert at_target.sum() > 0
    probs = torch.from_numpy(samples.logits).double().softmax(1).numpy()
    assert probs[np.arange(8), attempts.requested_target].tolist() == pytest.approx(
        samples.confidence.tolist()
    )
    assert attempts.requested_target.tolist() == samples.target_label.tolist()


def test_rows_are_found_by_stable_index(cnn):
    """Attempts on some images, in any order, attack those very images."""
    split = make_split(8, (1, 8, 8))
    config = AttackConfig(eps=EPS, steps=2)
    rows = np.array([6, 1, 4])
    attempts = choose_attempts("next", split.index[rows], split.labels.numpy()[rows], CLASSES, 0)
    samples = run(cnn, split, attempts, config)
    everything = run(cnn, split, _attempts(split, 8, rule="next"), config)
    np.testing.assert_allclose(everything.delta[rows], samples.delta, rtol=0, atol=1e-3)
    np.testing.assert_allclose(everything.logits[rows], samples.logits, rtol=0, atol=1e-3)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("requires_grad", [True, False])
def test_the_model_and_the_images_are_left_as_they_were(cnn, training, requires_grad):
    """Mode, requires_grad, gradients, weights, batch-norm statistics and images stay."""
    cnn.train(training).requires_grad_(requires_grad)
    split = make_split(5, (1, 8, 8))
    weights = {name: tensor.clone() for name, tensor in cnn.state_dict().items()}
    images, labels = split.images.clone(), split.labels.clone()
    run(cnn, split, _attempts(split, 5), AttackConfig(eps=EPS, steps=3))
    assert all(module.training == training for module in cnn.modules())
    assert all(parameter.requires_grad == requires_grad for parameter in cnn.parameters())
    assert all(parameter.grad is None for parameter in cnn.parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in cnn.state_dict().items())
    assert torch.equal(images, split.images)
    assert torch.equal(labels, split.labels)


# ---- equal bytes


def _bytes(samples):
    return [
        getattr(samples, name).tobytes()
        for name in ("delta", "logits", "success", "linf", "l2", "confidence")
    ]


def test_the_same_chunk_gives_the_same_bytes(cnn):
    """Whatever ran before, in whatever model object: equal inputs, equal bytes."""
    split = make_split(16, (1, 8, 8))
    config = AttackConfig(eps=EPS, steps=4)
    attempts = _attempts(split, 16)
    prepared = PreparedModel(cnn, CPU)
    first = run(cnn, split, attempts.chunk(1, 8), config, prepared=prepared)
    run(cnn, split, attempts.chunk(0, 8), config, prepared=prepared)
    torch.manual_seed(123)
    again = run(cnn, split, attempts.chunk(1, 8), config, prepared=prepared)
    fresh = run(copy.deepcopy(cnn), split, attempts.chunk(1, 8), config)
    assert _bytes(first) == _bytes(again) == _bytes(fresh)


def test_the_last_chunk_is_padded(cnn):
    """Every batch of an attack has the shape of a whole chunk; what comes back is not padded."""
    split = make_split(11, (1, 8, 8))
    attempts = _attempts(split, 11).chunk(1, 8)
    prepared = PreparedModel(cnn, CPU)
    sizes = []
    for model in (prepared.model, prepared.frozen):
        model.register_forward_pre_hook(lambda module, given: sizes.append(len(given[0])))
    clean_logits = np.zeros((11, 10), dtype=np.float32)
    samples = perturb(prepared, split, attempts, clean_logits, AttackConfig(eps=EPS, steps=3), 8)
    assert sizes == [8] * 4  # three steps, then the check
    assert {3} == {
        len(getattr(samples, field.name)) for field in dataclasses.fields(samples)
    }  # all of them, attempts included


def test_other_images_in_a_batch_do_not_matter_to_the_gradient(plane):
    """An image's steps do not depend on how many others are beside it."""
    split = make_split(8, classes=2)
    config = AttackConfig(eps=EPS, steps=5)
    attempts = _attempts(split, 8, ("a", "b"))
    alone = run(plane, split, attempts.chunk(2, 1), config)
    together = run(plane, split, attempts, config)
    assert together.delta[2:3].tobytes() == alone.delta.tobytes()


# ---- starts


def test_starts_are_keyed(plane):
    """A start depends on seed, image and target alone: not on ε, steps, position or company."""
    shape, config = (2, 3, 3), AttackConfig(eps=EPS)
    attempts = Attempts(np.array([5, 9, 5]), np.array([0, 1, 0]), np.array([1, 2, 3]))
    noise = start_noise(attempts, shape, config)
    other = start_noise(attempts.chunk(1, 1), shape, AttackConfig(eps=0.1, steps=7))
    assert torch.equal(noise[1:2], other)
    assert len({part.numpy().tobytes() for part in noise}) == 3
    assert not torch.equal(noise, start_noise(attempts, shape, AttackConfig(eps=EPS, seed=1)))
    assert (noise >= -1.0).all()
    assert (noise <= 1.0).all()
    assert noise.min() < -0.5 < 0.5 < noise.max()


def test_without_random_start_the_start_is_the_image():
    """No noise is added when none is asked for."""
    attempts = Attempts(np.array([5, 9]), np.array([0, 1]), np.array([1, 2]))
    noise = start_noise(attempts, (1, 2, 2), AttackConfig(eps=EPS, random_start=False))
    assert torch.equal(torch.zeros(2, 1, 2, 2), noise)


# ---- targets


@pytest.mark.parametrize("rule", ["random", "all", "next", "c", "2"])
def test_the_true_label_is_never_aimed_at(rule):
    """Whatever the rule, each target is a label other than the image's own."""
    attempts = _attempts(make_split(200), 200, rule=rule)
    assert (attempts.requested_target != attempts.source_label).all()
    assert set(attempts.requested_target.tolist()) <= set(range(10))
    assert {np.dtype(np.int64)} == {getattr(attempts, f.name).dtype for f in dataclasses.fields(attempts)}


def test_random_targets_depend_on_seed_and_image_alone():
    """Other images present, another order: each image keeps its target; another seed gives others."""
    split = make_split(100)
    whole = _attempts(split, 100)
    rows = np.array([70, 3, 41])
    part = choose_attempts("random", split.index[rows], split.labels.numpy()[rows], CLASSES, 0)
    assert whole.requested_target[rows].tolist() == part.requested_target.tolist()
    assert whole.requested_target.tolist() != _attempts(split, 100, seed=1).requested_target.tolist()


def test_random_targets_are_uniform_over_wrong_labels():
    """Each of the nine wrong labels is drawn equally often."""
    split = make_split(3600)
    attempts = _attempts(split, 3600)
    steps = (attempts.requested_target - attempts.source_label) % 10
    counts = np.bincount(steps, minlength=10)
    assert counts[0] == 0
    assert ((counts[1:] - 400) ** 2 / 400).sum() < 26.1  # chi-square, 8 degrees of freedom, 99.9 %


def test_all_targets_are_every_wrong_label_once():
    """Each image is aimed at each of the nine other labels, image by image."""
    split = make_split(12)
    attempts = _attempts(split, 12, rule="all")
    assert len(attempts) == 12 * 9
    for row in range(12):
        mine = attempts.chunk(row, 9)
        label = int(split.labels[row])
        assert [int(split.index[row])] * 9 == mine.sample_index.tolist()
        assert set(range(10)) - {label} == set(mine.requested_target.tolist())


def test_next_is_the_label_after():
    """The last label is followed by the first."""
    attempts = _attempts(make_split(10), 10, rule="next")
    assert attempts.requested_target.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]


@pytest.mark.parametrize("rule", ["d", "3"])
def test_one_label_leaves_its_own_images_out(rule):
    """Images that have the label already are not attacked."""
    split = make_split(20)
    attempts = _attempts(split, 20, rule=rule)
    assert len(attempts) == 18
    assert {3} == set(attempts.requested_target.tolist())
    assert 3 not in attempts.source_label


@pytest.mark.parametrize("rule", ["", "nonsense", "10", "-1", "1.5", "RANDOM"])
def test_unknown_targets_list_what_exists(rule):
    """What is neither rule nor label is a usage error that lists both."""
    with pytest.raises(UnknownNameError) as caught:
        _attempts(make_split(3), 3, rule=rule)
    assert all(known in str(caught.value) for known in ("--targets", "random", "all", "next", *CLASSES))


def test_labels_are_read_by_name_before_number():
    """A label whose name is a number is that label, wherever it stands."""
    assert parse_label("0", ("1", "2", "0")) == 2


@pytest.mark.parametrize("images", [None, 50, 60])
def test_all_images_are_chosen(images):
    """None, or as many as there are or more, is all of them."""
    assert list(range(50)) == choose_images(make_split(50), images).tolist()


def test_smaller_choices_are_within_larger_ones():
    """A choice of n images is a part of every larger choice, and in order."""
    split = make_split(50)
    choices = [choose_images(split, n).tolist() for n in (1, 7, 20, 49)]
    assert [len(choice) for choice in choices] == [1, 7, 20, 49]
    assert all(choice == sorted(set(choice)) for choice in choices)
    assert all(set(few) < set(more) for few, more in itertools.pairwise(choices))


# ---- success


@pytest.mark.parametrize(
    ("clean", "after", "source", "target", "success"),
    [
        (0, 1, 0, 1, True),
        (0, 2, 0, 1, False),  # another wrong label than the one aimed at
        (0, 0, 0, 1, False),
        (2, 1, 0, 1, False),  # wrong before
        (1, 1, 0, 1, False),  # there already
        (0, 1, 0, UNTARGETED, True),
        (0, 2, 0, UNTARGETED, True),
        (0, 0, 0, UNTARGETED, False),
        (2, 1, 0, UNTARGETED, False),
    ],
)
def test_success_is_right_before_and_at_the_target_after(clean, after, source, target, success):
    """The one definition of success, targeted and untargeted."""
    one_hot = np.eye(3, dtype=np.float32)
    result = is_success(one_hot[[clean]], one_hot[[after]], np.array([source]), np.array([target]))
    assert [success] == result.tolist()


# ---- folding and chunks


@pytest.mark.parametrize("arch", ["cnn-small", "resnet8", "resnet18", "resnet50", "vit-small"])
def test_folding_changes_logits_only_by_rounding(arch):
    """Batch norms vanish into convolutions, the function stays, and so does the original."""
    torch.manual_seed(0)
    network = {
        "cnn-small": lambda: SmallCNN(10, 3, 16, 4),
        "resnet8": lambda: CifarResNet(1, 10, 3, 4),
        "resnet18": lambda: small_image_resnet(18, 10, 3, 4),
        "resnet50": lambda: small_image_resnet(50, 10, 3, 4),
        "vit-small": lambda: small_vit(10, 3, 16, 8),
    }[arch]()
    model = _stir_batch_norm(Normalized(network, (0.5,) * 3, (0.25,) * 3)).eval()
    x = torch.rand(3, 3, 16, 16, generator=_generator())
    with torch.no_grad():
        before = model(x)
        folded = fold_batch_norm(copy.deepcopy(model))
        assert torch.equal(before, model(x))
        np.testing.assert_allclose(before, folded(x), rtol=1e-4, atol=1e-4 * float(before.abs().max()))
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


class SharedConvolution(nn.Module):
    """One convolution used twice, each time before a batch norm of its own."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(2), nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn2(self.conv(self.bn1(self.conv(x)))).mean((2, 3))


class Branching(nn.Module):
    """A network that looks at its input, which can not be traced."""

    def __init__(self):
        super().__init__()
        self.bn = nn.BatchNorm2d(2)

    def forward(self, x):
        return self.bn(x if x.sum() > 0 else -x).mean((2, 3))


@pytest.mark.parametrize("network", [SharedConvolution, Branching])
def test_folding_keeps_the_function_of_any_network(network):
    """A network that can not be folded as it is, such as one with shared weights, is still attacked itself."""
    torch.manual_seed(0)
    model = _stir_batch_norm(network()).eval()
    for x in (torch.rand(3, 2, 5, 5), -torch.rand(3, 2, 5, 5)):
        with torch.no_grad():
            np.testing.assert_allclose(
                model(x), fold_batch_norm(copy.deepcopy(model))(x), rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize(
    ("shape", "device", "size"),
    [
        ((3, 32, 32), "cpu", 80),
        ((1, 8, 8), "cpu", 256),
        ((3, 512, 512), "cpu", 16),
        ((3, 32, 32), "cuda", 1360),
        ((1, 8, 8), "cuda", 4096),
    ],
)
def test_chunk_sizes(shape, device, size):
    """A chunk is a multiple of 16 within the limits of its device."""
    assert size == plan_chunk_size(shape, torch.device(device))
