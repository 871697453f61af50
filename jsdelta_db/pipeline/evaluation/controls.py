"""Controls: pairs whose answer is known, judged by the same code.

They run in memory, and only their outcomes are stored (``control_result``): no sample or score rows.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import (
    BALLS,
    PreparedAttack,
    apply_delta,
    describe_samples,
    is_success,
    perturb,
)
from jsdelta_db.compute.attacks.stability import sign_noise
from jsdelta_db.compute.data import Split
from jsdelta_db.compute.metrics import combine_baselines, score
from jsdelta_db.compute.models.inference import predict_images
from jsdelta_db.config import controls as names
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.evaluation import DEFAULT_BETA
from jsdelta_db.pipeline.evaluation.baselines import find_baselines, pairs_of
from jsdelta_db.pipeline.evaluation.plan import Plan
from jsdelta_db.records import FILE_SPLIT, Attempts, Baselines, Control, Samples, Scores, label_pair
from jsdelta_db.runtime import seeding
from jsdelta_db.runtime.memory import SubBatch
from jsdelta_db.store.controls import list_controls, write_controls
from jsdelta_db.workbench.models import LoadedModel

MOST_ATTEMPTS, MOST_ATTACKED = 256, 64  # judged; attacked anew, which costs far more
FEWEST = 10  # samples behind a verdict
NOISE_MEDIAN, NOISE_SUCCESS = 0.01, 0.1  # JSΔ; share of the attack's success rate
UNIT = (0.9, 1.1)  # JSΔ of a real change of class
INVARIANT = 0.10  # JSΔ: a flip that counts for more is seen as a change
SHIFT_PIXELS, NOISE_SIZE = 1, 2 / 255
MEMBER_ROUNDING = 1e-6  # members' divergences are stored as float32
DEFAULT_STEPS = 100  # of samples that came without their number


@dataclass(frozen=True, slots=True)
class Subject:
    """Some attempts of one evaluation, for its controls."""

    plan: Plan
    baselines: Baselines
    samples: Samples

    @property
    def x(self) -> Tensor:
        """The clean images."""
        return torch.from_numpy(self.samples.x)

    @property
    def x_adv(self) -> Tensor:
        """The adversarial ones."""
        return apply_delta(self.x, torch.from_numpy(self.samples.delta))

    def judge(self, x: Tensor, shown: Tensor) -> Scores:
        """Let the evaluators compare two batches of images, for the label pairs of the samples."""
        plan, samples = self.plan, self.samples
        pairs = describe_samples(
            samples.attempts,
            x,
            shown - x,
            _predict(plan.roles.attacked, x),
            _predict(plan.roles.attacked, shown),
        )
        clean, after = (
            np.stack([_predict(each, part) for each in plan.roles.evaluators]) for part in (x, shown)
        )
        pairs = replace(pairs, target_label=samples.target_label)
        return score(pairs, clean, after, self.baselines, plan.temperatures)


def run_controls(plan: Plan) -> None:
    """Run the controls of a finished evaluation and store the outcomes; stored ones are not run again.

    Raises:
        UsageError: the samples were not stored.
    """
    store = plan.roles.bench.store
    with store.read_session() as session:
        known = list_controls(session, evaluation_id=plan.evaluation.id)
    missing = [control for name, control in CONTROLS.items() if name not in known]
    if not missing:
        return
    samples = _pick_samples(plan)
    subject = Subject(plan, find_baselines(plan, pairs_of(samples)), samples)
    with plan.roles.bench.progress.task(f"controls, {plan.title}", len(missing)) as advance:
        for control in missing:
            outcomes = control(subject)
            with store.transaction() as session:
                write_controls(session, evaluation_id=plan.evaluation.id, controls=outcomes)
            advance(1)


def identity(subject: Subject) -> list[Control]:
    """An image beside itself: nothing moved, exactly."""
    scores = subject.judge(subject.x, apply_delta(subject.x, torch.zeros_like(subject.x)))
    return [Control(names.IDENTITY, float(scores.js.max()), 0.0, 0.0)]


def sign_noise_of_eps(subject: Subject) -> list[Control]:
    """Noise of the attack's size without its direction: hardly noticed, hardly ever a success."""
    attack, attempts = subject.plan.attack, subject.samples.attempts
    signs = sign_noise(attempts, tuple(subject.x.shape[1:]), "control", attack.seed)
    noisy = (subject.x + BALLS[attack.norm].spread(signs, attack.eps)).clamp_(0.0, 1.0)
    scores = subject.judge(subject.x, noisy)
    hits = is_success(
        subject.samples.clean_logits, _predict(subject.plan.roles.attacked, noisy), attempts.source_label,
        attempts.requested_target,
    )  # fmt: skip
    of_attack = float(subject.samples.success.mean())
    return [
        Control(names.NOISE_JS_DELTA, _median(scores.js_delta), high=NOISE_MEDIAN),
        Control(names.NOISE_SUCCESS, float(hits.mean()), high=NOISE_SUCCESS * of_attack),
    ]


def clean_pairs(subject: Subject) -> list[Control]:
    """A clean image of each label: the change that JSΔ is measured in, on images it was not measured on."""
    plan, samples = subject.plan, subject.samples
    split = plan.roles.dataset.splits["attack" if plan.attack.split == FILE_SPLIT else plan.attack.split]
    partners = _draw_partners(split, samples.attempts, samples.target_label)
    js_delta = subject.judge(subject.x, split.batch(partners)).js_delta
    mean = float(np.nanmean(js_delta)) if np.isfinite(js_delta).any() else None
    return [Control(names.CLEAN_PAIRS, mean, *UNIT)]


def attacked_among_evaluators(subject: Subject) -> list[Control]:
    """Put the attacked model among the evaluators: its own divergence bounds JSΔ from below."""
    plan, samples = subject.plan, subject.samples
    rule, members = plan.evaluation.temperature_rule, [*plan.roles.evaluators, plan.roles.attacked]
    labels = plan.roles.dataset.splits["baseline"].labels.numpy()
    temperatures = [*plan.temperatures, plan.roles.attacked.temperature(rule)]
    clean = [each.logits("baseline") for each in members]
    means = [each.baselines(list(subject.baselines), rule) for each in members]
    baselines = combine_baselines(means, clean, labels, temperatures)
    scores = score(
        samples,
        np.stack([*(_predict(each, subject.x) for each in plan.roles.evaluators), samples.clean_logits]),
        np.stack([*(_predict(each, subject.x_adv) for each in plan.roles.evaluators), samples.logits]),
        baselines,
        temperatures,
    )
    usable = samples.success & np.isfinite(scores.js_delta)
    # js_g / (N + 1) is the attacked model's part of the mean; the others can only add to it. Divided by ρ
    # itself, not by JSΔ's own divisor: else a wrong JSΔ would bound itself.
    rho = np.array(
        [
            baselines[label_pair(int(y), int(t))].rho if known else 1.0
            for y, t, known in zip(samples.attempts.source_label, samples.target_label, usable, strict=True)
        ]
    )
    bound = np.where(usable, scores.member_js[:, -1] / (len(members) * rho), 0.0)
    slack = float((scores.js_delta - bound)[usable].min()) if usable.any() else None
    hidden = (scores.js_delta < DEFAULT_BETA) & (bound >= DEFAULT_BETA) & usable
    return [
        Control(names.ATTACKED_AMONG_EVALUATORS, slack, low=-MEMBER_ROUNDING),
        Control(names.ATTACKED_AMONG_EVALUATORS_BUGS, float(hidden.sum()), high=0.0),
    ]


def joint_attack(subject: Subject) -> list[Control]:
    """Attack all evaluators at once: where each of them ends at t, a real change of class was seen."""
    plan = subject.plan
    few = _first(subject, MOST_ATTACKED)
    first, *others = plan.roles.evaluators
    made = _attack(few, "feature", first, others)
    shown = apply_delta(few.x, torch.from_numpy(made.delta))
    predicted = np.stack([_predict(each, shown).argmax(1) for each in plan.roles.evaluators])
    everywhere = (predicted == few.samples.target_label).all(0)
    js_delta = few.judge(few.x, shown).js_delta[everywhere]
    return [
        # A handful tells nothing: weak attacks hardly ever move every evaluator at once.
        Control(names.JOINT_ATTACK, _median(js_delta), *UNIT, has_verdict=int(everywhere.sum()) >= FEWEST),
        Control(names.JOINT_ATTACK_SUCCESS, float(everywhere.mean()), has_verdict=False),
    ]


def bug_seeking(subject: Subject) -> list[Control]:
    """Seek bugs on purpose, with half of the evaluators to hide from and the others to judge: shown only."""
    plan = subject.plan
    half = len(plan.roles.evaluators) // 2
    if not half:
        return [Control(names.BUG_SEEKING, None, has_verdict=False)]
    few = _first(subject, MOST_ATTACKED)
    made = _attack(few, "bug", plan.roles.attacked, plan.roles.evaluators[:half])
    judging = replace(
        plan,
        roles=replace(plan.roles, evaluators=plan.roles.evaluators[half:]),
        temperatures=plan.temperatures[half:],
    )
    judged = replace(few, plan=judging, baselines=find_baselines(judging, list(few.baselines)))
    scores = judged.judge(few.x, apply_delta(few.x, torch.from_numpy(made.delta)))
    usable = made.success & np.isfinite(scores.js_delta)
    value = float((scores.js_delta[usable] < DEFAULT_BETA).mean()) if usable.any() else None
    return [Control(names.BUG_SEEKING, value, has_verdict=False)]


def invariance(subject: Subject) -> list[Control]:
    """Changes that keep the label: JSΔ stays near 0 where training taught the models to expect them."""
    x, attempts = subject.x, subject.samples.attempts
    signs = sign_noise(attempts, tuple(x.shape[1:]), "invariance", subject.plan.attack.seed)
    changed = {
        names.INVARIANCE_FLIP: x.flip(-1),
        names.INVARIANCE_SHIFT: _shift(x),
        names.INVARIANCE_NOISE: (x + signs * NOISE_SIZE).clamp_(0.0, 1.0),
    }
    return [
        Control(name, _median(subject.judge(x, shown).js_delta), high=INVARIANT)
        for name, shown in changed.items()
    ]


# by the name of each one's first outcome, which tells whether it was run
CONTROLS: dict[str, Callable[[Subject], list[Control]]] = {
    names.IDENTITY: identity,
    names.NOISE_JS_DELTA: sign_noise_of_eps,
    names.CLEAN_PAIRS: clean_pairs,
    names.ATTACKED_AMONG_EVALUATORS: attacked_among_evaluators,
    names.JOINT_ATTACK: joint_attack,
    names.BUG_SEEKING: bug_seeking,
    names.INVARIANCE_FLIP: invariance,
}


def _pick_samples(plan: Plan) -> Samples:
    """Return some attempts of chunks in a keyed order."""
    seed = plan.attack.seed
    found: Samples | None = None
    for position in seeding.order(np.array(plan.chunks, dtype=np.int64), "controls", seed):
        part = plan.stored_chunk(int(position)).samples
        found = part if found is None else found.joined(part)
        if len(found.attempts) >= MOST_ATTEMPTS:
            break
    assert found is not None
    return found.pick(seeding.order(np.arange(len(found.attempts)), "control attempts")[:MOST_ATTEMPTS])


def _first(subject: Subject, most: int) -> Subject:
    return replace(subject, samples=subject.samples.pick(slice(0, most)))


def _attack(
    subject: Subject, objective: str, attacked: LoadedModel, surrogates: Sequence[LoadedModel]
) -> Samples:
    """Attack the subject's images again, with the attack's own ball, steps and dtype."""
    attack, samples = subject.plan.attack, subject.samples
    config = AttackConfig(
        eps=attack.eps, norm=attack.norm, steps=attack.steps or DEFAULT_STEPS, objective=objective,
        seed=attack.seed,
    )  # fmt: skip
    rows = np.arange(len(samples.attempts))
    # Rows stand for indices: the same image may be here several times, towards different labels.
    attempts = Attempts(rows, samples.attempts.source_label, samples.target_label)
    prepared, *held = (each.prepared(attack.dtype) for each in (attacked, *surrogates))
    made = PreparedAttack(prepared, held, config, len(rows))
    return perturb(made, attempts, subject.x, _predict(attacked, subject.x))


def _draw_partners(split: Split, attempts: Attempts, target_label: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw a row of the split for each attempt, an image of its label t."""
    labels = split.labels.numpy()
    of_label = {int(label): np.flatnonzero(labels == label) for label in np.unique(target_label)}
    draws = [
        seeding.generator("partner", int(i), int(t))
        for i, t in zip(attempts.sample_index, target_label, strict=True)
    ]
    return np.array(
        [draw.choice(of_label[int(t)]) for draw, t in zip(draws, target_label, strict=True)], dtype=np.int64
    )


def _shift(x: Tensor) -> Tensor:
    """Move images to the right; the edge is repeated, so that no dark border appears."""
    padded = torch.nn.functional.pad(x, (SHIFT_PIXELS, 0, 0, 0), mode="replicate")
    return padded[..., : x.shape[-1]]


def _predict(model: LoadedModel, images: Tensor) -> NDArray[np.float32]:
    ordered = images.contiguous(memory_format=torch.channels_last)
    whole, doing = SubBatch(len(ordered)), "while running controls"
    (logits,) = predict_images([model.network], ordered, model.device, whole, doing)
    return np.asarray(logits)


def _median(values: NDArray[np.float64]) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else None
