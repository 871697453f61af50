"""Run by the peers' interpreter: ``jsdelta_db.attack`` by another library's attack, and the same by hand.

Arguments: a workspace, the attack's name, its arguments as JSON, ``random`` or ``untargeted``. Prints JSON.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

import jsdelta_db
from jsdelta_db.compute.models.inference import forward
from jsdelta_db.config.locations import Workspace
from jsdelta_db.pipeline.evaluation.open_roles import open_roles
from jsdelta_db.pipeline.evaluation.roles import RoleRequest, find_roles
from jsdelta_db.queries.bugs import query_bugs
from jsdelta_db.queries.selection import Selection
from jsdelta_db.workbench.workbench import open_workbench
from tests.pipeline import peer_samples

EPS, IMAGES = 8 / 255, 300


def by_hand(name, model, x, label, target):
    """Call the library as its manual says, in one batch."""
    steps, size = 20, 2.5 * EPS / 20
    if name.startswith("torchattacks:APGDT"):
        return peer_samples.with_apgdt(model, x, label, EPS, steps)
    if name.startswith("autoattack"):
        import torchattacks

        return torchattacks.AutoAttack(torch.nn.Sequential(model).eval(), eps=EPS, n_classes=10, seed=0)(
            x, label
        )
    with_library = getattr(peer_samples, f"with_{name.partition(':')[0]}")
    return with_library(model, x, target, EPS, steps, size)


def main(folder: Path, name: str, arguments: dict, targets: str) -> dict:
    workspace = Workspace(folder, f"sqlite:///{folder / 'jsdelta.db'}", None, folder / "data")
    with open_workbench(workspace) as bench:
        done = jsdelta_db.attack(bench, EPS, fn=name, arguments=arguments, images=IMAGES, targets=targets)
        with bench.store.reading() as connection:
            (row,) = query_bugs(connection, [0.1], (), Selection(uids=tuple(done.attacks))).rows
            samples = connection.exec_driver_sql(
                "SELECT sample_index, requested_target, source_label, success FROM sample "
                "JOIN attack ON attack.id = attack_id WHERE uid = ? ORDER BY sample_index",
                (done.attacks[0],),
            ).all()
        with bench.store.read_session() as session:
            found = find_roles(session, RoleRequest())
        (roles,) = open_roles(bench, found, "cpu")
        index, target, label, success = (np.array(column) for column in zip(*samples, strict=True))
        split = roles.dataset.splits["attack"]
        x = split.batch(split.rows_of(index))
        network = roles.attacked.network
        x_adv = by_hand(name, network, x, torch.from_numpy(label), torch.from_numpy(target)).detach().float()
        after = forward(network, x_adv).argmax(1)
        reached = after != label if targets == "untargeted" else after == target
    return {
        "ours": float(success.mean()), "by_hand": float(reached.mean()), "outside": row["n_outside"],
        "judged": row["n_attempted"] + row["n_no_baseline"], "attempts": len(samples),
    }  # fmt: skip


if __name__ == "__main__":
    found = main(Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), sys.argv[4])
    sys.stdout.write(json.dumps(found))
