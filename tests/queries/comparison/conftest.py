"""A store to compare in: standard and SAM models of the same seeds, attacked at two ε, judged by the standard ones."""

import shutil
from itertools import product

import numpy as np
import pytest

from jsdelta_db.store.creating import open_for_writing
from jsdelta_db.store.schema import EvaluationBaseline, RhoBaseline, Sample, Score
from tests.stores import add_attack, add_dataset, add_ensemble, add_evaluation, add_model

SEEDS, IMAGES, CLASSES = range(4), 60, 4
LEVELS = (3, 8)
PAIRS = [(low, high) for high in range(CLASSES) for low in range(high)]


@pytest.fixture(scope="session")
def two_methods(tmp_path_factory, empty_store):
    """A workspace's folder: attacks at 3/255 and 8/255, judged by three; at 5/255 SAM's are judged by four."""
    folder = tmp_path_factory.mktemp("two-methods")
    shutil.copy(empty_store, folder / "jsdelta.db")
    store = open_for_writing(f"sqlite:///{folder / 'jsdelta.db'}")
    with store.transaction() as session:
        _Maker(session).make()
    store.close()
    return folder


class _Maker:
    """Rows of two methods, drawn with effects of image, model and method."""

    def __init__(self, session) -> None:
        self.session, self.draw = session, np.random.default_rng(14)
        self.dataset = add_dataset(session, name="toy")
        self.models = {
            method: [
                add_model(
                    session, self.dataset, seed, method=method, recipe={"method": method}, recipe_name=method
                )
                for seed in SEEDS
            ]
            for method in ("standard", "sam")
        }
        self.ensembles = {
            method: add_ensemble(session, self.dataset, some, name=f"toy-{method}")
            for method, some in self.models.items()
        }
        self.hardness = self.draw.normal(size=IMAGES)
        self.of_seed = self.draw.normal(scale=0.4, size=len(SEEDS))

    def make(self) -> None:
        """Make everything."""
        self.rho = {}
        for model in (*self.models["standard"], *self.models["sam"]):
            for low, high in PAIRS:
                rho = self.rho[model.id, low, high] = float(self.draw.uniform(0.4, 0.7))
                self.session.add(
                    RhoBaseline(
                        model_id=model.id, dataset_id=self.dataset.id, split="baseline", temperature_rule="1",
                        label_low=low, label_high=high, rho=rho, standard_error=0.01, pairs=900, n_low=30,
                        image_means=bytes(8 * 60),
                    )
                )  # fmt: skip
        for method, seed, level in product(("standard", "sam"), SEEDS, (3, 5, 8)):
            attack = add_attack(
                self.session, self.models[method][seed], eps=level / 255, steps=40, target_rule="all",
                n_images=IMAGES, n_attempts=2 * IMAGES,
            )  # fmt: skip
            judges = [
                model
                for each, model in zip(SEEDS, self.models["standard"], strict=True)
                if each != seed or (method, level) == ("sam", 5)
            ]
            self._judge(attack, judges, method, seed, level)

    def _judge(self, attack, judges, method, seed, level) -> None:
        evaluation = add_evaluation(self.session, attack, judges, self.ensembles["standard"])
        for low, high in PAIRS:
            rho = float(np.mean([self.rho[model.id, low, high] for model in judges]))
            self.session.add(
                EvaluationBaseline(
                    evaluation_id=evaluation.id, label_low=low, label_high=high, rho=rho, rho_of_mean=rho,
                    standard_error=0.01, pairs=900, images=60,
                )
            )  # fmt: skip
        for image, step in product(range(IMAGES), (1, 2)):
            source = image % CLASSES
            target = (source + step) % CLASSES
            self._add(attack, evaluation, judges, (image, source, target), (method, seed, level))

    def _add(self, attack, evaluation, judges, keys, condition) -> None:
        (image, source, target), (method, seed, level) = keys, condition
        ease = 0.5 * (level - 5) + self.of_seed[seed] + self.hardness[image] - 0.3 * (method == "sam")
        success = int(self.draw.normal() < ease + 0.3)
        change = np.exp(self.draw.normal(ease / 2 - 3, 0.8, size=len(judges))).clip(0, 1)
        member_js = change.astype("<f4")
        rho = [self.rho[model.id, *sorted((source, target))] for model in judges]
        js_delta = float(member_js.astype(float).sum() / sum(rho))
        self.session.add(
            Sample(
                attack_id=attack.id, sample_index=image, requested_target=target, source_label=source,
                target_label=target, success=success, confidence=0.5, linf=attack.eps, l2=0.1,
            )
        )  # fmt: skip
        self.session.add(
            Score(
                evaluation_id=evaluation.id, sample_index=image, requested_target=target,
                js=float(member_js.mean()), js_of_mean=0.1, js_attacked=float(self.draw.uniform(0.1, 0.9)),
                js_delta=js_delta if image % 20 else None, n_right=len(judges), n_at_target=0,
                n_at_target_adv=0, member_js=member_js.tobytes(),
            )
        )  # fmt: skip
