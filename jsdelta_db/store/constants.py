"""What the store's readers need to know without loading the schema."""

VERSION_TABLE = "jsdelta_alembic_version"  # MLflow and Optuna both use alembic_version
HEAD_REVISION = "0003"  # a test holds it against Alembic's own head

# A run-like row's life; an interrupted one goes back to pending.
PENDING, RUNNING, FINISHED, FAILED = "pending", "running", "finished", "failed"


ROBUST_ACCURACY = "robust_accuracy"  # of model_metric, on the attack split

# Of model_metric, on the attack split: the share of images on which a model and another, named by its
# uid, say the same label. A fact of two models: ensembles that share both share it.
AGREEMENT = "agreement:"


def agreement_key(one: tuple[int, str], other: tuple[int, str]) -> tuple[int, str]:
    """Return which model's row tells how two models agree, and its name there.

    Args:
        one, other: id and uid of a model each. The uids decide: ids are others in every store.
    """
    low, high = sorted((one, other), key=lambda model: model[1])
    return low[0], AGREEMENT + high[1]


CONSTRUCTED = "constructed"
