"""Verdicts on arrays: ``jsdelta score --samples`` for Python."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jsdelta_db.compute.data import Dataset
from jsdelta_db.config.checks import check as check_value
from jsdelta_db.config.evaluation import DEFAULT_BETA, EvaluationConfig, check_beta
from jsdelta_db.config.locations import as_path, resolve_workspace
from jsdelta_db.pipeline.evaluation.foreign import Measured
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_foreign
from jsdelta_db.runtime.progress import Warnings
from jsdelta_db.samples.foreign import ForeignSamples, SampleArrays, check_samples
from jsdelta_db.samples.given_arrays import as_array
from jsdelta_db.store.reading import fetch, reading
from jsdelta_db.store.session import open_store
from jsdelta_db.workbench.workbench import open_workbench

if TYPE_CHECKING:
    import pyarrow as pa

VERDICTS = """
SELECT sample.sample_index, sample.requested_target, sample.success, score.js_delta
FROM score
JOIN evaluation ON evaluation.id = score.evaluation_id
JOIN sample ON sample.attack_id = evaluation.attack_id
           AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
WHERE evaluation.uid = :uid
"""


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """An ensemble's verdict on samples, row i for sample i as it was given.

    Attributes:
        evaluation: uid, for ``jsdelta query bugs --attack``.
        was_right: the attacked model calls x by its label; if not, the sample was skipped.
        success: it was, and x_adv is at the target (or any wrong label), ``(n,)``.
        js_delta: JSΔ ``(n,)``; NaN for skipped samples and label pairs without a baseline.
        measured: sizes and success, beside the claims.
    """

    evaluation: str
    was_right: NDArray[np.bool_]
    success: NDArray[np.bool_]
    js_delta: NDArray[np.float64]
    measured: Measured

    def is_bug(self, beta: float = DEFAULT_BETA) -> NDArray[np.bool_]:
        """Tell which samples are adversarial bugs: successful, with JSΔ < β."""
        return self.success & (self.js_delta < check_beta(beta))

    def bug_fraction(self, beta: float = DEFAULT_BETA) -> float:
        """Return the share of bugs among the successes that have a JSΔ; NaN if there are none."""
        judged = self.success & ~np.isnan(self.js_delta)
        return float(self.is_bug(beta)[judged].mean()) if judged.any() else float("nan")

    def __repr__(self) -> str:
        """Say in one line what came out, at the default β."""
        judged = int((self.success & ~np.isnan(self.js_delta)).sum())
        return (
            f"<Verdict {self.evaluation[:8]}: {len(self.success)} samples, {int(self.success.sum())} "
            f"successes, {int(self.is_bug().sum())} of {judged} bugs at beta {DEFAULT_BETA:g}>"
        )

    def to_arrow(self) -> "pa.Table":
        """Return a table with a row for each sample, in the order given; a missing JSΔ is null."""
        import pyarrow as pa

        return pa.table(
            {
                "was_right": self.was_right,
                "success": self.success,
                "js_delta": pa.array(self.js_delta, from_pandas=True),
            }
        )


def judge(
    x: ArrayLike,
    x_adv: ArrayLike,
    label: ArrayLike,
    target_label: ArrayLike | None = None,
    *,
    ensemble: str | None = None,
    attacked: str | int = "first",
    evaluators: str | Sequence[str] = (),
    library: str = "unknown",
    norm: str = "linf",
    temperature: str = "1",
    workspace: str | Path | None = None,
    data_dir: str | Path | None = None,
    trust_code: bool = False,
) -> Verdict:
    """Store samples that were made elsewhere, let an ensemble judge them, and return its verdict.

    This writes: the samples, their scores and an MLflow run become part of the workspace, and queries count
    them (``--library`` tells them apart). The same arrays given again are found, not stored twice.

    Example::

        verdict = jsdelta_db.judge(x, x_adv, label, target, ensemble="digits", attacked=0)
        verdict.bug_fraction(beta=0.10)

    Args:
        x, x_adv: images ``(n, c, h, w)`` or ``(n, h, w, c)``, both uint8 or both floating in
            [0, 1]; NumPy arrays, nested lists, or torch tensors on any device, with or without gradients.
        label, target_label: whole numbers ``(n,)`` or one-hot; no targets for untargeted samples.
        ensemble: name or uid; the newest finished one if None.
        attacked: the model that they were made against: ``first``, a member's seed or a model.
        evaluators: references, or one that names a whole set; the ensemble's other members if empty.
        library: that made them, such as ``torchattacks==3.5.1``.
        norm: in which their size is measured, ``linf`` or ``l2``; the largest one is stored as ε.
        temperature: of the evaluators' softmax: ``1``, or ``fit`` for one per evaluator.
        workspace: folder of the store; the current one (or ``JSDELTA_HOME``) if None.
        data_dir: folder of the data sets; ``JSDELTA_DATA_DIR`` or ``data`` in the workspace if None.
        trust_code: run code (``module:callable``) that models of the store name.

    Warns:
        UserWarning: what makes the verdict doubtful, such as images that every model has seen.

    Raises:
        StoreNotReadyError: there is no store in the workspace.
        JsdeltaError: the arrays or a name are not valid; nothing is stored.
    """
    arrays = SampleArrays(
        as_array(x, "x"), as_array(x_adv, "x_adv"), as_array(label, "label"),
        None if target_label is None else as_array(target_label, "target_label"),
    )  # fmt: skip
    for name, text in (("library", library), ("norm", norm)):
        check_value(name, text, isinstance(text, str), "text")
    request = RoleRequest.from_caller(ensemble, attacked, evaluators)
    rules = EvaluationConfig(str(temperature))
    place = resolve_workspace(as_path("workspace", workspace), as_path("data_dir", data_dir))
    open_store(place.db_url).close()  # fails where there is none; a workbench would make one
    samples: list[ForeignSamples] = []

    def check(dataset: Dataset) -> ForeignSamples:
        found = check_samples(arrays, dataset, library=library, norm=norm)
        samples.append(replace(found, conversions=()))  # a caller who hands over arrays knows their types
        return samples[0]

    with open_workbench(place, Warnings(), trusts_code=trust_code) as bench:
        judged, measured = score_foreign(bench, check, request, rules=rules)
    with reading(place.db_url) as connection:
        rows = fetch(connection, VERDICTS, uid=judged.evaluations[0])
    of_attempt = {(index, target): (success, js_delta) for index, target, success, js_delta in rows}
    attempts = samples[0].attempts
    keys = zip(attempts.sample_index.tolist(), attempts.requested_target.tolist(), strict=True)
    values = [of_attempt.get(key) for key in keys]
    return Verdict(
        evaluation=judged.evaluations[0],
        was_right=np.array([value is not None for value in values]),
        success=np.array([value is not None and bool(value[0]) for value in values]),
        js_delta=np.array([np.nan if value is None or value[1] is None else value[1] for value in values]),
        measured=measured,
    )
