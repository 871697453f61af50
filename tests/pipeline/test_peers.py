"""Samples really made by torchattacks, foolbox and ART: judged here, and compared with ours. The long tier."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jsdelta_db.compute import data
from jsdelta_db.compute.attacks import choose_attempts
from jsdelta_db.compute.data.dataset import Dataset
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.pipeline.evaluation.roles import RoleRequest
from jsdelta_db.pipeline.score import score_foreign
from jsdelta_db.samples.foreign import check_samples, read_samples
from jsdelta_db.store.references import get_ensemble, list_members
from jsdelta_db.workbench.models import LoadedModel
from jsdelta_db.workbench.workbench import open_workbench

pytestmark = pytest.mark.slow

EPS, STEPS, IMAGES = 8 / 255, 40, 300
STEP = 2.5 * EPS / 20
# Attacks by name, with the arguments that the call by hand has, and their targets.
BY_NAME = {
    "torchattacks:PGD": ({"steps": 20, "alpha": STEP, "random_start": False}, "random"),
    "torchattacks:APGDT": ({"steps": 20}, "untargeted"),
    "foolbox:LinfPGD": ({"steps": 20, "abs_stepsize": STEP, "random_start": False}, "random"),
    "art:ProjectedGradientDescent": ({"max_iter": 20, "eps_step": STEP, "num_random_init": 0}, "random"),
    "autoattack:standard": ({}, "untargeted"),
}
TARGETED = ("torchattacks", "foolbox", "art")
SCRIPT = Path(__file__).with_name("peer_samples.py")
ROOT = Path(__file__).parents[2]
PEERS = ROOT / "benchmarks" / "peers.py"


def peers_python() -> Path:
    """Return the interpreter that has the other libraries."""
    spec = importlib.util.spec_from_file_location("peers", PEERS)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.peers_python()


@pytest.fixture(scope="module")
def made(tiny, tmp_path_factory) -> Path:
    """A folder with one file a library, all made against the tiny store's first member."""
    folder = tmp_path_factory.mktemp("peers")
    dataset = data.load("digits", folder)
    split = dataset.splits["attack"]
    rows = np.arange(IMAGES)
    attempts = choose_attempts("random", split.index[rows], split.labels.numpy()[rows], dataset.classes, 0)
    with open_workbench(tiny) as bench, bench.store.transaction() as session:
        member = list_members(session, get_ensemble(session))[0]
        shutil.copy(bench.locate(member.checkpoint_uri), folder / "checkpoint.pt")
    np.savez(
        folder / "job.npz", x=split.batch(rows).numpy(), label=attempts.source_label,
        target_label=attempts.requested_target, eps=EPS, steps=STEPS,
    )  # fmt: skip
    subprocess.run([peers_python(), SCRIPT, folder], check=True, timeout=600)
    return folder


@pytest.fixture(scope="module")
def attacked(tiny) -> LoadedModel:
    """The model that all of them attacked."""
    with open_workbench(tiny) as bench:
        with bench.store.transaction() as session:
            member = list_members(session, get_ensemble(session))[0]
        return LoadedModel(bench, member, data.load("digits", tiny.data_dir), 1, torch.device("cpu"))


@pytest.mark.parametrize("library", TARGETED)
def test_ours_is_their_attack(made, attacked, library):
    """Without a random start every library walks our path: the same target success, the same loss."""
    ours, theirs = (np.load(made / f"{name}.npz") for name in ("ours", library))
    target = ours["target_label"]
    logits = [forward(attacked.network, torch.from_numpy(each["x_adv"])) for each in (ours, theirs)]
    hits = [(each.argmax(1) == target).mean() for each in logits]
    losses = [float(F.cross_entropy(torch.from_numpy(each), torch.from_numpy(target))) for each in logits]
    assert hits[0] > 0.5
    assert hits[0] == pytest.approx(hits[1], abs=0.01)
    assert losses[0] == pytest.approx(losses[1], abs=0.02)


@pytest.mark.parametrize("library", [*TARGETED, "torchattacks-apgdt"])
def test_their_samples_are_judged(tiny_copy, made, library):
    """A file of each library is stored and judged; ε and success come out as they are."""
    arrays = read_samples(made / f"{library}.npz")

    def check(dataset: Dataset):
        return check_samples(arrays, dataset, library=library)

    with open_workbench(tiny_copy) as bench:
        judged, measured = score_foreign(bench, check, RoleRequest(attacked="first"))
    assert judged.worked_on == 1
    assert measured.eps == pytest.approx(EPS, abs=1e-6)
    assert measured.eps_claimed == pytest.approx(EPS)
    assert measured.success_rate > 0.5
    assert measured.n_attempts + measured.n_skipped == IMAGES


@pytest.mark.parametrize("name", BY_NAME)
def test_their_attacks_run_by_name(tiny_copy, name):
    """``--attack-by`` with each library: stored and judged, within ε, and as successful as by hand."""
    arguments, targets = BY_NAME[name]
    script = [peers_python(), "-m", "tests.pipeline.attack_by_peer"]
    ran = subprocess.run(
        [*script, tiny_copy.root, name, json.dumps(arguments), targets],
        check=True, timeout=600, stdout=subprocess.PIPE, cwd=ROOT,
    )  # fmt: skip
    found = json.loads(ran.stdout)
    assert found["outside"] == 0
    assert found["attempts"] == found["judged"] > 0.9 * IMAGES
    assert found["by_hand"] > 0.5
    assert found["ours"] == pytest.approx(found["by_hand"], abs=0.01)


@pytest.mark.parametrize("name", ["all", "int", "untold"])
def test_the_files_that_torchattacks_saves_are_judged(tiny_copy, made, name):
    """Attack.save's own files: what it claims is what is measured, of bytes up to their rounding."""
    samples = read_samples(made / f"saved-{name}.pt")
    with open_workbench(tiny_copy) as bench:
        judged, measured = score_foreign(
            bench, lambda dataset: check_samples(samples, dataset, library="torchattacks")
        )
    assert judged.worked_on == 1
    expected = EPS / 8 if name == "untold" else EPS
    assert measured.eps == pytest.approx(expected, abs=1.01 / 255 if name == "int" else 1e-6)
    assert measured.n_attempts + measured.n_skipped == IMAGES
    if name == "all":
        assert measured.success_rate == measured.success_rate_claimed
    elif name == "untold":
        assert measured.success_rate_claimed is None


def test_levels_rounded_down_are_noticed(tiny_copy, made):
    """A writer that floors to 8 bits moves every pixel: the measured ε is larger than the claimed one."""
    arrays = read_samples(made / "torchattacks.npz")
    floored = dataclasses.replace(
        arrays,
        x=np.rint(arrays.x * 255).astype(np.uint8),
        x_adv=np.floor(arrays.x_adv * 255).astype(np.uint8),
    )
    with open_workbench(tiny_copy) as bench:
        _, measured = score_foreign(bench, lambda dataset: check_samples(floored, dataset, library="floored"))
    assert measured.eps > measured.eps_claimed + 0.5 / 255
