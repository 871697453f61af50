"""Start-up of ``jsdelta --help`` and ``jsdelta query bugs``, as whole processes."""

import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RUNS = 9
JSDELTA = str(Path(sys.executable).with_name("jsdelta"))
MLFLOW = str(Path(sys.executable).with_name("mlflow"))
QUERY_IMPORTS = "import typer, rich.table, numpy, sqlalchemy.orm, sqlalchemy.dialects.sqlite"


def time_command(command: list[str], environment: dict[str, str]) -> dict[str, float]:
    """Return the median wall and CPU seconds of a command, after one warm-up."""
    wall, cpu = [], []
    for _ in range(RUNS + 1):
        before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            command, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall.append(time.perf_counter() - start)
        cpu.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {"wall_s": round(statistics.median(wall[1:]), 3), "cpu_s": round(statistics.median(cpu[1:]), 3)}


def make_store(folder: Path) -> None:
    """Write a store of the quickstart's shape: 4 attacks × 583 images × 9 targets."""
    import numpy as np

    from jsdelta_db.records import Attempts, Samples, Scores
    from jsdelta_db.store import runs
    from jsdelta_db.store.attempts import write_samples, write_scores
    from jsdelta_db.store.creating import open_for_writing
    from jsdelta_db.store.schema import (
        FINISHED,
        Attack,
        Ensemble,
        EnsembleMember,
        Evaluation,
        EvaluationMember,
        Model,
    )

    store = open_for_writing(f"sqlite:///{folder / 'jsdelta.db'}")
    rng = np.random.default_rng(0)
    images, targets = 583, 9
    index = np.repeat(np.arange(images), targets)
    source = np.repeat(rng.integers(0, 10, images), targets)
    target = (source + np.tile(np.arange(1, 10), images)) % 10
    attempts, n = Attempts(index, source, target), images * targets
    with store.transaction() as session:
        dataset = runs.ensure_dataset(
            session, name="digits", classes=list("0123456789"), fingerprint="f" * 64
        )
        models = [
            Model(
                uid=f"{seed:016x}", config_hash=f"m{seed}", created_at=runs.now(), dataset_id=dataset.id,
                seed=seed, recipe_name="digits", recipe={}, architecture="cnn-small", method="standard",
                checkpoint_sha256=f"{seed:064x}", status=FINISHED,
            )
            for seed in range(5)
        ]  # fmt: skip
        ensemble = Ensemble(
            uid="e" * 16, config_hash="e", created_at=runs.now(), finished_at=runs.now(), name="digits",
            dataset_id=dataset.id, status=FINISHED,
        )  # fmt: skip
        session.add_all([*models, ensemble])
        session.flush()
        session.add_all(
            EnsembleMember(ensemble_id=ensemble.id, position=i, model_id=model.id)
            for i, model in enumerate(models)
        )
        for level in (1, 3, 5, 8):
            attack = Attack(
                uid=f"a{level:015x}", config_hash=f"a{level}", created_at=runs.now(), finished_at=runs.now(),
                attacked_model_id=models[0].id, attacked_sha256=models[0].checkpoint_sha256,
                dataset_id=dataset.id, split="attack", norm="linf", eps=level / 255, steps=100,
                step_size=2.5 * level / 25500,
                random_start=True, restarts=1, target_rule="all", objective="target", stop="never", seed=0,
                library="jsdelta", library_version="0", chunk_size=256, n_images=600, n_skipped=17,
                n_attempts=n, requested_device="auto", requested_dtype="float32",
                device="cpu", dtype="float32", threads=2,
            )  # fmt: skip
            session.add(attack)
            session.flush()
            evaluation = Evaluation(
                uid=f"b{level:015x}", config_hash=f"b{level}", created_at=runs.now(), finished_at=runs.now(),
                attack_id=attack.id, attacked_sha256=attack.attacked_sha256, ensemble_id=ensemble.id,
                temperature_rule="1", baseline_rule="clean-pairs",
            )  # fmt: skip
            session.add(evaluation)
            session.flush()
            session.add_all(
                EvaluationMember(
                    evaluation_id=evaluation.id, position=i, model_id=model.id,
                    model_sha256=model.checkpoint_sha256, attacked_sha256=attack.attacked_sha256,
                )
                for i, model in enumerate(models[1:])
            )  # fmt: skip
            ones = np.full(n, level / 255)
            write_samples(
                session,
                attack_id=attack.id,
                samples=Samples(
                    attempts, target, success=rng.random(n) < level / 8, confidence=rng.random(n),
                    linf=ones, l2=ones, x=np.zeros((n, 1, 1, 1), np.float32),
                    delta=np.zeros((n, 1, 1, 1), np.float16),
                    clean_logits=np.zeros((n, 10), np.float32), logits=np.zeros((n, 10), np.float32),
                ),
            )  # fmt: skip
            js, counts = rng.random(n) ** 2, np.ones(n, dtype=np.int64)
            write_scores(
                session,
                evaluation_id=evaluation.id,
                scores=Scores(
                    attempts, js, js, js, js, counts, counts, counts, counts,
                    np.zeros((n, 4), np.float32), np.zeros((n, 4), np.float32),
                    np.zeros((4, n, 10), np.float32),
                ),
            )  # fmt: skip
            runs.finish_evaluation(session, attack, evaluation)
    store.close()


def main() -> None:
    """Measure and print."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        make_store(Path(folder))
        query = [JSDELTA, "--workspace", folder, "query", "bugs", "--beta", "0.01"]
        result = {
            "help": time_command([JSDELTA, "--help"], environment),
            "query_bugs": time_command(query, environment),
            "peers": {
                "python -c pass": time_command([sys.executable, "-c", "pass"], environment),
                "what a query imports": time_command([sys.executable, "-c", QUERY_IMPORTS], environment),
                "mlflow --help": time_command([MLFLOW, "--help"], environment),
            },
            "runs": RUNS,
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
