"""Constants of the schema, for readers that do not load SQLAlchemy."""

VERSION_TABLE = "jsdelta_alembic_version"  # MLflow and Optuna both use alembic_version
HEAD_REVISION = "0007"  # a test holds it against Alembic's own head

# The states of a run-like row or a chunk; an interrupted one goes back to pending.
PENDING, RUNNING, FINISHED, FAILED = "pending", "running", "finished", "failed"

BUILTIN, CONSTRUCTED, ADDED = "builtin", "constructed", "external"  # kinds of data sets

# Names in model_metric, both measured on the attack split. Agreement is the share of images on which the
# model and another, whose uid follows, predict the same label: a fact that all their ensembles share.
ROBUST_ACCURACY = "robust_accuracy"
AGREEMENT = "agreement:"


def agreement_key(one: tuple[int, str], other: tuple[int, str]) -> tuple[int, str]:
    """Return the model id and name of the metric that holds two models' agreement.

    Args:
        one, other: id and uid of a model each. The uids decide, since ids differ from store to store.
    """
    low, high = sorted((one, other), key=lambda model: model[1])
    return low[0], AGREEMENT + high[1]
