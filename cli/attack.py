"""``jsdelta attack``: make adversarial samples, and ``jsdelta attack export``."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.eps import parse_eps
from jsdelta_db.config.evaluation import DEFAULT_BETAS, EvaluationConfig
from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.roles import RoleRequest

from . import options
from .output import Format, TerminalProgress, note, write_bugs

if TYPE_CHECKING:
    from jsdelta_db.workbench.workbench import Workbench

app = typer.Typer(invoke_without_command=True)


@app.callback()
def attack(
    ctx: typer.Context,
    eps: Annotated[
        list[str] | None,
        typer.Option(metavar="EPS", help="Radius: linf in 1/255 or a fraction, l2 as it is (repeatable)."),
    ] = None,
    ensemble: options.Ensemble = None,
    attacked: Annotated[
        str, typer.Option(metavar="first|all|SEED|MODEL", help="Which models to attack.")
    ] = "first",
    evaluators: options.Evaluators = None,
    surrogates: Annotated[
        list[str] | None,
        typer.Option(metavar="SEEDS|MODEL", help="Models held back for --objective bug or feature."),
    ] = None,
    targets: Annotated[
        str,
        typer.Option(
            metavar="random|all|next|least-likely|untargeted|LABEL", help="Which wrong labels to aim at."
        ),
    ] = "random",
    untargeted: Annotated[
        bool, typer.Option("--untargeted", help="The same as --targets untargeted.")
    ] = False,
    norm: Annotated[str, typer.Option(metavar="linf|l2", help="The norm that EPS is in.")] = "linf",
    steps: Annotated[int, typer.Option(metavar="N", parser=options.whole(1), help="Gradient steps.")] = 100,
    relative_step_size: Annotated[
        float, typer.Option(metavar="FACTOR", help="Step size in units of EPS / steps.")
    ] = 2.5,
    random_start: Annotated[
        bool, typer.Option("--random-start/--no-random-start", help="Start anywhere in the ball.")
    ] = True,
    restarts: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(1), help="Starts; the best end is kept.")
    ] = 1,
    objective: Annotated[
        str, typer.Option(metavar="target|margin|bug|feature", help="What the steps lower.")
    ] = "target",
    stop: Annotated[
        str, typer.Option(metavar="never|first-hit", help="When an image's steps end early.")
    ] = "never",
    images: Annotated[
        int | None,
        typer.Option(metavar="N", parser=options.whole(1), help="How many images of the attack split."),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", parser=options.whole(0), help="Decides targets and starts.")
    ] = 0,
    temperature: options.Temperature = "1",
    save_samples: Annotated[
        bool, typer.Option("--save-samples/--no-save-samples", help="Keep the perturbations.")
    ] = True,
    controls: options.Controls = False,
    stability: options.Stability = False,
    data_dir: options.DataDir = None,
    device: options.Device = None,
    dtype: Annotated[
        str, typer.Option(metavar="auto|float32|bfloat16", help="Arithmetic inside the network.")
    ] = "auto",
    offline: Annotated[
        bool, typer.Option("--offline", help="Work in --output alone; jsdelta db import takes it later.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where --offline works.")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="SOURCE", help="Export or store with the models for --offline."),
    ] = None,
) -> None:
    """Attack members of an ensemble by targeted PGD, let the others judge, and store every sample.

    Example: jsdelta attack --eps 3
    """
    if ctx.invoked_subcommand is not None:
        return
    if not eps:
        raise UsageError(
            "jsdelta attack needs a radius: --eps 3 (3/255), or several; see jsdelta attack --help"
        )
    configs = [
        AttackConfig(
            eps=value, steps=steps, targets=_targets(targets, untargeted), seed=seed, images=images,
            norm=norm, relative_step_size=relative_step_size, random_start=random_start, restarts=restarts,
            objective=objective, stop=stop, dtype=dtype, device=device or "auto",
        )
        for value in sorted({parse_eps(text, norm) for text in eps})
    ]  # fmt: skip
    workspace = ctx.obj.workspace(data_dir)
    folder = _offline_folder(offline, output, start)
    evaluations, worked_on = run_attack(
        workspace, configs, ensemble, attacked, evaluators=evaluators or (), surrogates=surrogates or (),
        rules=EvaluationConfig(temperature), controls=controls, stability=stability,
        keeps_samples=save_samples, offline=folder, start=start,
    )  # fmt: skip
    if folder is not None:
        from jsdelta_db.exchange.offline import offline_workspace

        workspace = offline_workspace(workspace, folder)
    print_summary(workspace, evaluations)
    if not worked_on:
        note("every one of these attacks was finished before; nothing was done again")
    if folder is not None:
        note(f"stored in {folder} alone; where the models are from: jsdelta db import {folder.name}")


def _offline_folder(offline: bool, output: Path | None, start: str | None) -> Path | None:
    if not offline and (output is not None or start is not None):
        raise UsageError("--output and --from go with --offline; give it, or leave them out")
    if offline and output is None:
        raise UsageError("--offline works in a folder of its own; name it: --output FOLDER")
    return output


def _targets(targets: str, untargeted: bool) -> str:
    if untargeted and targets not in ("random", "untargeted"):
        raise UsageError(f"--untargeted aims at no label, and --targets {targets!r} does; give one of them")
    return "untargeted" if untargeted else targets


def run_attack(
    workspace: Workspace,
    configs: list[AttackConfig],
    ensemble: str | None,
    attacked: str,
    *,
    evaluators: list[str] | tuple[str, ...] = (),
    surrogates: list[str] | tuple[str, ...] = (),
    rules: EvaluationConfig = EvaluationConfig(),  # noqa: B008 frozen
    controls: bool = False,
    stability: bool = False,
    keeps_samples: bool = True,
    offline: Path | None = None,
    start: str | None = None,
) -> tuple[tuple[str, ...], int]:
    """Run attacks with a progress bar; return the evaluations' uids and how many had work left."""
    from jsdelta_db.exchange.offline import open_offline
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.pipeline.evaluation.work import Extras
    from jsdelta_db.store.session import open_store
    from jsdelta_db.workbench.workbench import open_workbench

    request = RoleRequest(ensemble, attacked, evaluators, surrogates)
    opened: AbstractContextManager[Workbench]
    if offline is not None:
        opened = open_offline(workspace, offline, start, configs[0].objective, request, TerminalProgress())
    else:
        open_store(workspace.db_url).close()  # without a store there is no ensemble: says so, makes nothing
        opened = open_workbench(workspace, TerminalProgress())
    with opened as bench:
        result = attack_and_score(
            bench,
            configs,
            request,
            rules=rules,
            extras=Extras(controls, stability),
            keeps_samples=keeps_samples,
        )
    return tuple(result.evaluations), result.worked_on


def print_summary(workspace: Workspace, evaluations: tuple[str, ...]) -> None:
    """Print the bug table of some evaluations at the usual thresholds."""
    from jsdelta_db.queries.bugs import query_bugs
    from jsdelta_db.queries.selection import Selection
    from jsdelta_db.store.reading import reading

    with reading(workspace.db_url) as connection:
        table = query_bugs(connection, DEFAULT_BETAS, selection=Selection(uids=evaluations))
    write_bugs(table.keys, table.rows, Format.TABLE, None, True)
