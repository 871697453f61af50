"""The steps: closed forms on linear models, the textbook's loop, one step, and stopping at the first hit."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jsdelta_db.compute.attacks import BALLS, Steps, build_objective, pgd
from jsdelta_db.compute.attacks.criteria import has_arrived
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.checks import NORMS
from jsdelta_db.records import UNTARGETED

from .attack_cases import (
    EPS,
    attack_digits,
    generator,
    make_attempts,
    make_cnn,
    make_images,
    make_plane,
    make_split,
    run,
    trained_digits,
)


def walk(model, x, source, target, *, norm="linf", eps=None, start=None, steps=10, name="target", **options):
    """Attack a batch from one source label (or one each) to a target."""
    source_label, requested_target = (
        torch.as_tensor(label, device=x.device).expand(len(x)) for label in (source, target)
    )
    eps = EPS[norm] if eps is None else eps
    objective = build_objective(name, model.requires_grad_(False), (), x, source_label, requested_target)
    return pgd(
        objective,
        BALLS[norm](x, eps),
        torch.zeros_like(x) if start is None else start,
        Steps(steps, options.pop("step_size", 2.5 * eps / steps)),
        **options,
    )


def best(x, w, eps, norm):
    """The closed form: the point of the ball that is farthest along w, where [0, 1] does not end first."""
    return x + eps * (w.sign() if norm == "linf" else w / w.norm())


def grey_images(n=5):
    """Images that no change of 0.2 takes out of [0, 1]."""
    return make_images(n) * 0.4 + 0.3


# ---- closed forms


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("name", ["target", "margin"])
@pytest.mark.parametrize("target", [0, 1, UNTARGETED])
@pytest.mark.parametrize("norm", NORMS)
def test_pgd_ends_where_a_linear_model_is_farthest(norm, target, name, steps):
    """On a linear model the best x_adv of the ball is known, and PGD ends there."""
    plane, x = make_plane(), grey_images()
    x_adv = walk(
        plane, x, 1 if target == UNTARGETED else 1 - target, target, norm=norm, name=name, steps=steps
    )
    direction = plane.w * (-1 if target == 1 else 1)  # away from label 1 is towards label 0
    torch.testing.assert_close(best(x, direction, EPS[norm], norm), x_adv, rtol=0, atol=3e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("norm", NORMS)
def test_it_is_reached_from_any_start(norm, seed):
    """The steps add up to 2.5 ε, which crosses the ball from any random start."""
    plane, x = make_plane(), grey_images()
    start = torch.rand(x.shape, generator=generator(seed)) * 2 - 1
    start /= BALLS[norm].size(start).view(-1, 1, 1, 1)
    x_adv = walk(plane, x, 1, 0, norm=norm, start=start, steps=40)
    # A corner is reached exactly; on a sphere the last of the way is only approached.
    gain, most = (
        ((end - x) * plane.w).flatten(1).sum(1) for end in (x_adv, best(x, plane.w, EPS[norm], norm))
    )
    assert (gain > 0.95 * most).all()
    if norm == "linf":
        torch.testing.assert_close(best(x, plane.w, EPS[norm], norm), x_adv, rtol=0, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 10])
def test_the_corner_of_the_box_is_cut_by_the_range(steps):
    """Black and white pixels have nowhere to go: linf ends in the corner of what is left, exactly."""
    plane, x = make_plane(), make_images(5)
    x_adv = walk(plane, x, 1, 0, steps=steps)
    torch.testing.assert_close(best(x, plane.w, EPS["linf"], "linf").clamp(0, 1), x_adv, rtol=0, atol=1e-6)


def farthest_in_range(x, w, eps):
    """The best point of the Euclidean ball and [0, 1]: clamp(x + λw), with the λ of length ε (by bisection)."""
    x, w = x.double(), w.double()
    low, high = torch.zeros(len(x), 1, 1, 1).double(), torch.full((len(x), 1, 1, 1), 1e6).double()
    for _ in range(80):
        middle = (low + high) / 2
        too_far = ((x + middle * w).clamp(0, 1) - x).flatten(1).norm(dim=1) > eps
        high = torch.where(too_far.view(-1, 1, 1, 1), middle, high)
        low = torch.where(too_far.view(-1, 1, 1, 1), low, middle)
    return (x + low * w).clamp(0, 1)


def test_the_euclidean_ball_is_used_where_the_range_cuts_it():
    """Where pixels are black or white, the others take their share: within 1 % of the best in 100 steps."""
    plane, x = make_plane(), make_images(5)
    x_adv = walk(plane, x, 1, 0, norm="l2", eps=0.5, steps=100)
    most = ((farthest_in_range(x, plane.w, 0.5) - x) * plane.w).flatten(1).sum(1)
    assert (((x_adv - x) * plane.w).flatten(1).sum(1) > 0.99 * most).all()


# ---- the loop


def textbook(model, x, target, start, norm, eps, step_size, steps):
    """PGD as it is written in books, one batch at a time."""

    def inside(x_adv):
        if norm == "linf":
            return torch.min(torch.max(x_adv, (x - eps).clamp(0)), (x + eps).clamp(max=1))
        size = (x_adv - x).flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return (x + (x_adv - x) * (eps / size).clamp(max=1)).clamp(0, 1)

    x_adv = inside(x + eps * start)
    for _ in range(steps):
        x_adv = x_adv.detach().requires_grad_()
        F.cross_entropy(model(x_adv), target, reduction="sum").backward()
        gradient = x_adv.grad
        norms = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        x_adv = inside(x_adv.detach() - step_size * (gradient.sign() if norm == "linf" else gradient / norms))
    return x_adv


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_is_the_plain_loop(norm):
    """On a network the fast loop makes the steps of the textbook, and leaves its arguments alone."""
    cnn = make_cnn().eval().requires_grad_(False)
    x, target = make_images(3, (1, 8, 8)), torch.tensor([1, 2, 3])
    start = torch.rand(x.shape, generator=generator()) * 0.2 - 0.1
    before = x.clone(), start.clone(), target.clone()
    expected = textbook(cnn, x, target, start, norm, 0.3, 0.05, 4)
    x_adv = walk(cnn, x, 0, target, norm=norm, eps=0.3, start=start, step_size=0.05, steps=4)
    torch.testing.assert_close(expected, x_adv, rtol=0, atol=0 if norm == "linf" else 1e-5)
    assert all(torch.equal(*pair) for pair in zip(before, (x, start, target), strict=True))
    assert not x_adv.requires_grad


@pytest.mark.parametrize("norm", NORMS)
def test_one_step_is_the_fast_gradient_method(norm):
    """One whole step from the image itself is FGSM, and its Euclidean form: x − ε·direction."""
    cnn = make_cnn().eval()
    split = make_split(8, (1, 8, 8))
    eps = EPS[norm]
    attempts = make_attempts(split, 8)
    config = AttackConfig(eps=eps, norm=norm, steps=1, relative_step_size=1.0, random_start=False)
    samples = run(cnn, split, attempts, config)
    x = split.images.clone().requires_grad_()
    F.cross_entropy(cnn(x), torch.from_numpy(attempts.requested_target), reduction="sum").backward()
    unit = x.grad.sign() if norm == "linf" else x.grad / x.grad.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    expected = (split.images - eps * unit).clamp(0, 1) - split.images
    np.testing.assert_allclose(expected, samples.delta, rtol=0, atol=eps * 2**-10)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("stop", ["never", "first-hit"])
@pytest.mark.parametrize("steps", [1, 3, 4, 20])
@pytest.mark.parametrize("norm", NORMS)
def test_steps_replayed_on_a_gpu_are_the_plain_ones(norm, steps, stop):
    """As many steps as on the CPU, to the same end, whether warmed up, captured or replayed."""
    options = {"has_arrived": lambda logits: logits.argmax(1) == 0} if stop == "first-hit" else {}
    ends = [
        walk(make_plane().to(device), grey_images().to(device), 1, 0, norm=norm, steps=steps, **options).cpu()
        for device in ("cpu", "cuda")
    ]
    torch.testing.assert_close(*ends, rtol=0, atol=1e-5)


# ---- the first hit


def arrived_and_later(norm, first=6, later=14):
    """Trained digits after some steps and after more, and which of them had arrived by then."""
    split, (model, *_) = trained_digits()
    x, source_label = split.images[:60], split.labels[:60]
    target = (source_label + 1) % 10
    ends = [
        walk(
            model, x, source_label, target, norm=norm, step_size=EPS[norm] / 8, steps=steps,
            has_arrived=lambda logits: has_arrived(logits, source_label, target),
        )
        for steps in (first, later)
    ]  # fmt: skip
    with torch.no_grad():
        return *ends, *(has_arrived(model(end), source_label, target) for end in ends)


@pytest.mark.parametrize("norm", NORMS)
def test_what_has_arrived_moves_no_further(norm):
    """Images at their target stay where they first reached it, while the others go on."""
    early, late, arrived, arrived_later = arrived_and_later(norm)
    assert 5 < int(arrived.sum()) < int(arrived_later.sum())
    torch.testing.assert_close(early[arrived], late[arrived], rtol=0, atol=0 if norm == "linf" else 1e-7)
    moved = (early - late).flatten(1).abs().amax(1)
    assert (moved[~arrived] > 1e-4).all()
    assert arrived_later[arrived].all()


@pytest.mark.parametrize("norm", NORMS)
def test_a_whole_batch_that_has_arrived_needs_no_more_steps(norm):
    """The loop ends with the last arrival: nobody is asked again."""
    plane, x = make_plane(), grey_images()
    calls = []

    def arrived(logits):
        calls.append(len(logits))
        return torch.full((len(logits),), len(calls) > 3)

    walk(plane, x, 1, 0, norm=norm, steps=50, has_arrived=arrived)
    assert calls == [5] * 4


@pytest.mark.parametrize("norm", NORMS)
def test_no_image_loses_by_the_company_it_is_in(norm):
    """One by one or all in one batch: the same successes, by either rule of stopping."""
    for stop in ("never", "first-hit"):
        config = AttackConfig(eps=EPS[norm], norm=norm, steps=10, stop=stop)
        (together,) = attack_digits(config, n=24)
        alone = np.concatenate([part.success for part in attack_digits(config, n=24, chunk_size=1)])
        assert alone.tolist() == together.success.tolist()
        assert 3 < alone.sum() < 24


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("rule", ["random", "untargeted"])
def test_stopping_early_costs_no_success_and_leaves_samples_at_the_boundary(norm, rule):
    """As many arrive, and they are called their target with less confidence."""
    ends = [
        attack_digits(AttackConfig(eps=EPS[norm], norm=norm, steps=20, stop=stop), rule=rule)[0]
        for stop in ("never", "first-hit")
    ]
    never, first = ends
    assert first.success.mean() == pytest.approx(never.success.mean(), abs=0.02)
    both = first.success & never.success
    assert first.confidence[both].mean() < never.confidence[both].mean() - 0.1
    assert (getattr(first, norm) <= EPS[norm]).all()
