"""Models: the finished ones, trained or added."""

from typing import Any

from jsdelta_db.store.constants import FINISHED
from jsdelta_db.store.reading import Reader, fetch

MODEL_KEYS = (
    "model", "name", "dataset", "architecture", "method", "seed", "clean_accuracy", "sharpness", "ensembles",
)  # fmt: skip
MODELS = f"""
SELECT model.uid, model.name, dataset.name, model.architecture, model.method, model.seed,
       model.clean_accuracy, model.sharpness, model.id
FROM model JOIN dataset ON dataset.id = model.dataset_id
WHERE model.status = '{FINISHED}'
ORDER BY model.id
"""  # noqa: S608 a constant
MEMBERSHIPS = """
SELECT ensemble_member.model_id, ensemble.name
FROM ensemble_member JOIN ensemble ON ensemble.id = ensemble_member.ensemble_id
ORDER BY ensemble.id
"""


def query_models(reader: Reader) -> list[dict[str, Any]]:
    """Return the finished models, oldest first, with the ensembles that each belongs to."""
    ensembles: dict[int, list[str]] = {}
    for model_id, name in fetch(reader, MEMBERSHIPS):
        ensembles.setdefault(model_id, []).append(name)
    return [
        dict(
            zip(
                MODEL_KEYS,
                (*facts, " ".join(dict.fromkeys(ensembles.get(model_id, []))) or None),
                strict=True,
            )
        )
        for *facts, model_id in fetch(reader, MODELS)
    ]
