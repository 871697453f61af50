"""Many classes: label pairs and image pairs that are drawn or found as they occur, from the attack to the count."""

import numpy as np
import pytest
import torch
from torch import nn

from jsdelta_db.compute.sources.dividing import Rules
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.evaluation import MANY_CLASSES
from jsdelta_db.errors import UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.datasets.add import AddRequest, add_dataset, open_source
from jsdelta_db.pipeline.ensembles.added import add_ensemble
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.evaluation.work import Extras
from jsdelta_db.pipeline.external_models import ExternalRequest, add_model
from jsdelta_db.store.session import reading_store
from jsdelta_db.workbench.workbench import open_workbench
from tests.exchange.moving import bring, write
from tests.reading import ask
from tests.workspaces import copy_files, workspace_at

CLASSES, BASELINE, ATTACKED, SHAPE = MANY_CLASSES + 1, 11, 1, (1, 4, 4)


def centres() -> np.ndarray:
    """The middle of each class, in 0..255."""
    return np.random.default_rng(0).integers(40, 216, (CLASSES, *SHAPE))


def make(seed):
    """Return a network that knows the classes, and sees them a little differently by its seed."""
    middle = torch.from_numpy(centres() / 255).float().flatten(1)
    middle = middle + 0.05 * torch.randn(middle.shape, generator=torch.Generator().manual_seed(seed))
    layer = nn.Linear(middle.shape[1], CLASSES)
    layer.weight.data, layer.bias.data = 8 * middle, -4 * middle.square().sum(1)
    return nn.Sequential(nn.Flatten(), layer)


@pytest.fixture(scope="module")
def many(tmp_path_factory, mlflow_template):
    """A store with a data set of many classes and three networks for it; only read."""
    folder = tmp_path_factory.mktemp("many")
    labels = np.repeat(np.arange(CLASSES), BASELINE + ATTACKED)
    noise = np.random.default_rng(1).integers(-20, 21, (len(labels), *SHAPE))
    np.savez(folder / "many.npz", x=(centres()[labels] + noise).astype(np.uint8), y=labels)
    workspace = workspace_at(folder / "workspace")
    workspace.root.mkdir()
    (workspace.root / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    request = AddRequest("many", npz=folder / "many.npz", rules=Rules(BASELINE, test_only=True))
    with open_workbench(workspace) as bench:
        add_dataset(bench, request, open_source(request))
        for seed in range(3):
            factory = f"{__name__}:make"
            add_model(bench, ExternalRequest(f"net-{seed}", factory, None, "many", arguments={"seed": seed}))
        add_ensemble(bench, "nets", [f"net-{seed}" for seed in range(3)])
    return workspace


def attack(source, root, **settings):
    """Attack in a copy; return its workspace."""
    copy_files(source.root, root)
    workspace = workspace_at(root)
    config = AttackConfig(eps=24 / 255, steps=5, **settings)
    with open_workbench(workspace, chunk_size=20) as bench:
        attack_and_score(bench, [config], RoleRequest(ensemble="nets"), extras=Extras(controls=True))
    return workspace


PAIRS = "SELECT DISTINCT min(source_label, target_label), max(source_label, target_label) FROM sample ORDER BY 1, 2"
STORED = "SELECT label_low, label_high FROM evaluation_baseline ORDER BY 1, 2"


@pytest.mark.parametrize("targets", ["random", "untargeted"])
def test_baselines_are_of_label_pairs_that_occur(many, tmp_path, targets):
    """Known before a targeted attack, found as an untargeted one reaches them: those of its samples, no others.

    Each has at most 100 image pairs, and every sample on a usable one its JSΔ; check finds nothing wrong.
    """
    workspace = attack(many, tmp_path / "copy", targets=targets)
    pairs = ask(workspace, PAIRS)
    assert 0 < len(pairs) <= CLASSES * ATTACKED
    assert ask(workspace, STORED) == pairs
    assert ask(workspace, "SELECT DISTINCT pairs, images FROM evaluation_baseline") == [(100, BASELINE)]
    ((undefined, unusable),) = ask(
        workspace,
        "SELECT sum(js_delta IS NULL), sum(rho < 0.05 OR standard_error > 0.1 * rho) FROM score "
        "JOIN evaluation ON evaluation.id = score.evaluation_id "
        "JOIN sample ON sample.attack_id = evaluation.attack_id AND sample.sample_index = score.sample_index "
        "JOIN evaluation_baseline AS base ON base.evaluation_id = score.evaluation_id "
        "AND label_low = min(source_label, target_label) AND label_high = max(source_label, target_label)",
    )
    assert undefined == unusable < len(pairs)
    with reading_store(workspace.db_url) as connection:
        assert list(find_problems(connection, workspace.root)) == []


def test_stopped_untargeted_attack_has_the_baselines_of_all_its_chunks(many, tmp_path, monkeypatch):
    """What a stopped one stored, and what the rest reaches."""
    whole = attack(many, tmp_path / "whole", targets="untargeted")
    judged, real = [], work.save_scores

    def stopping(*args):
        judged.append(args)
        if len(judged) == 2:
            raise KeyboardInterrupt
        real(*args)

    with monkeypatch.context() as patch:
        patch.setattr(work, "save_scores", stopping)
        with pytest.raises(KeyboardInterrupt):
            attack(many, tmp_path / "stopped", targets="untargeted")
    config = AttackConfig(eps=24 / 255, steps=5, targets="untargeted")
    with open_workbench(workspace_at(tmp_path / "stopped")) as bench:
        attack_and_score(bench, [config], RoleRequest(ensemble="nets"))
    scores = "SELECT sample_index, js_delta FROM score ORDER BY 1"
    stopped = workspace_at(tmp_path / "stopped")
    assert ask(stopped, STORED) == ask(whole, STORED)
    assert ask(stopped, scores) == ask(whole, scores)


def test_store_of_many_classes_moves(many, tmp_path):
    """An export and its import take draws for what they are."""
    workspace = attack(many, tmp_path / "copy", targets="random")
    write(workspace, tmp_path / "export", with_files=False)
    target = workspace_at(tmp_path / "target")
    bring(target, tmp_path / "export", with_files=False)
    drawn = "SELECT label_low, label_high, rho, pairs FROM rho_baseline ORDER BY 1, 2, 3"
    assert ask(target, drawn) == ask(workspace, drawn) != []


def test_a_target_set_of_many_classes_is_started_when_somebody_agrees(many, tmp_path):
    """--targets all is one line with its number of attempts, until --yes; nothing is stored before."""
    said = r"all is 100 targets .* 200 attempts at each .*add --yes"
    settings = {"targets": "all", "images": 2}
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("jsdelta_db.pipeline.attack.MOST_TARGETS", 99)
        with pytest.raises(UsageError, match=said):
            attack(many, tmp_path / "asked", **settings)
        assert ask(workspace_at(tmp_path / "asked"), "SELECT count(*) FROM attack") == [(0,)]
        agreed = attack(many, tmp_path / "agreed", **settings, yes=True)
    assert ask(agreed, "SELECT n_attempts FROM attack") == [(200,)]


def test_split_that_a_data_set_lacks_is_refused(many, tmp_path):
    """A set added with --test-only has nothing to train on, and nothing to attack there."""
    with pytest.raises(UsageError, match=r"--split 'train': .* --test-only .*: must be baseline or attack"):
        attack(many, tmp_path / "copy", split="train")
