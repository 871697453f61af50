"""Foreign samples, entered like an attack of ours: measured again, not believed."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jsdelta_db.compute.attacks import apply_delta, describe_samples
from jsdelta_db.compute.models.inference import BATCH_SIZE, predict_images
from jsdelta_db.config.eps import SMALLEST, largest_eps
from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.config.hashing import config_hash
from jsdelta_db.errors import NothingToDoError
from jsdelta_db.pipeline.evaluation.open_roles import OpenRoles
from jsdelta_db.pipeline.evaluation.plan import (
    Plan,
    find_temperatures,
    insert_chunks,
    possible_pairs,
    store_evaluation,
)
from jsdelta_db.pipeline.evaluation.sources import GivenSamples
from jsdelta_db.records import FILE_SPLIT, UNTARGETED, Samples
from jsdelta_db.runtime.memory import SubBatch
from jsdelta_db.samples.foreign import ForeignSamples
from jsdelta_db.store import runs
from jsdelta_db.store.image_keys import pack_keys
from jsdelta_db.store.schema import Attack
from jsdelta_db.workbench.models import LoadedModel

LEVEL_TOLERANCE = 1e-6  # float rounding around a whole number of pixel levels
GIVEN, UNKNOWN = "given", "unknown"


@dataclass(frozen=True, slots=True)
class Measured:
    """Sizes and success of samples from elsewhere, measured and as claimed (None: not claimed).

    Attributes:
        n_skipped: images that the attacked model already misclassifies.
        eps, eps_claimed: largest change, in whole pixel levels up to float rounding, as it is stored.
        success_rate, success_rate_claimed: share of the attempts.
    """

    n_attempts: int
    n_skipped: int
    eps: float
    success_rate: float
    eps_claimed: float | None
    success_rate_claimed: float | None


def plan_foreign(roles: OpenRoles, samples: ForeignSamples, rules: EvaluationConfig) -> tuple[Plan, Measured]:
    """Find or make the rows of samples from elsewhere and their evaluation.

    Images that the model misclassifies are skipped.

    Raises:
        NothingToDoError: the attacked model misclassifies every image.
    """
    attacked = roles.attacked
    delta = samples.x_adv - samples.x
    # x + δ, not x_adv: what is checked is what is stored and scored, to the last bit.
    clean_logits, logits = (
        _predict(attacked, images) for images in (samples.x, apply_delta(samples.x, delta))
    )
    right = np.flatnonzero(clean_logits.argmax(1) == samples.attempts.source_label)
    if not len(right):
        raise NothingToDoError(
            f"model {attacked.title} calls none of {len(samples.x)} images by their label; "
            "are the labels and the order of the channels right?"
        )
    order = right[
        np.lexsort((samples.attempts.requested_target[right], samples.attempts.sample_index[right]))
    ]
    described = describe_samples(
        samples.attempts.pick(order), samples.x[order], delta[order], clean_logits[order], logits[order]
    )
    key = config_hash(
        {"kind": "samples", "sha256": samples.fingerprint, "library": samples.library, "norm": samples.norm},
        [roles.dataset_row.uid, attacked.row.uid],
    )
    temperatures = find_temperatures(roles, rules)
    with roles.bench.store.transaction() as session:
        attack = runs.find_or_create(session, Attack, key, lambda: _new_attack(roles, samples, described))
        if samples.split == FILE_SPLIT:
            attack.image_keys = pack_keys(samples.image_keys)  # also of a row of an earlier version
        insert_chunks(session, attack)
        evaluation = store_evaluation(session, roles, attack, rules, temperatures)
    pairs = possible_pairs(described.attempts, len(roles.dataset.classes))
    plan = Plan(roles, attack, evaluation, temperatures, pairs, GivenSamples(attack, described))
    return plan, _measure(samples, described, order, attack.eps)


def _new_attack(roles: OpenRoles, samples: ForeignSamples, described: Samples) -> Attack:
    """Return the row of an attack made elsewhere; unknown settings are marked so."""
    attacked, n_attempts = roles.attacked, len(described.attempts)
    size = described.linf if samples.norm == "linf" else described.l2
    library, _, version = samples.library.replace("==", " ").partition(" ")
    rule = "untargeted" if (described.attempts.requested_target == UNTARGETED).all() else GIVEN
    return Attack(
        attacked_model_id=attacked.row.id, attacked_sha256=attacked.row.checkpoint_sha256,
        dataset_id=roles.dataset_row.id, split=samples.split, norm=samples.norm,
        eps=_whole_levels(float(size.max()), samples.norm), steps=0, step_size=0.0, random_start=False,
        restarts=0, target_rule=rule, objective=UNKNOWN, stop=UNKNOWN, seed=0, images=None, library=library,
        library_version=version.strip(), chunk_size=BATCH_SIZE, n_images=len(samples.x),
        n_skipped=len(samples.x) - n_attempts, n_attempts=n_attempts, requested_device="auto",
        requested_dtype="float32", device=attacked.device.type, dtype="float32",
        threads=torch.get_num_threads(),
    )  # fmt: skip


def _predict(model: LoadedModel, images: Tensor) -> NDArray[np.float32]:
    batch, doing = SubBatch(BATCH_SIZE), "while checking samples"
    (logits,) = predict_images([model.network], images, model.device, batch, doing)
    return np.asarray(logits)


def _whole_levels(size: float, norm: str) -> float:
    """Return 8/255 for 8/255 give or take a float's rounding, so that it groups with other attacks' ε.

    Samples that change nothing have the smallest ε there is, not 0: a radius is above 0.
    """
    levels = round(size * 255)
    if norm == "linf" and levels and abs(size - levels / 255) <= LEVEL_TOLERANCE:
        return levels / 255
    return min(max(size, SMALLEST), largest_eps(norm))


def _measure(samples: ForeignSamples, described: Samples, order: NDArray[np.int64], eps: float) -> Measured:
    claimed = samples.success_claimed
    return Measured(
        n_attempts=len(order),
        n_skipped=len(samples.x) - len(order),
        eps=eps,
        success_rate=float(described.success.mean()),
        eps_claimed=samples.eps_claimed,
        success_rate_claimed=None if claimed is None else float(claimed[order].mean()),
    )
