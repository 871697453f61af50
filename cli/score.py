"""``jsdelta score``: judge samples again, or samples that were made elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.evaluation import EvaluationConfig
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.evaluation.roles import RoleRequest

from . import options
from .attack import print_summary
from .output import TerminalProgress, note

if TYPE_CHECKING:
    from jsdelta_db.pipeline.evaluation.foreign import Measured


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(score)


def score(
    ctx: typer.Context,
    attack: Annotated[
        list[str] | None, typer.Option(metavar="UID", help="Stored samples of this attack (repeatable).")
    ] = None,
    samples: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Samples from elsewhere: x, x_adv, label, target_label."),
    ] = None,
    evaluators: options.Evaluators = None,
    ensemble: options.Ensemble = None,
    attacked: Annotated[
        str, typer.Option(metavar="first|SEED|MODEL", help="The model that FILE was made against.")
    ] = "first",
    library: Annotated[
        str, typer.Option(metavar="NAME", help="What made FILE, such as torchattacks==3.5.1.")
    ] = "unknown",
    norm: Annotated[
        str, typer.Option(metavar="linf|l2", help="The norm to measure FILE's samples in.")
    ] = "linf",
    temperature: options.Temperature = "1",
    controls: options.Controls = False,
    stability: options.Stability = False,
    data_dir: options.DataDir = None,
    device: options.Device = None,
) -> None:
    """Judge stored samples by other evaluators or rules, or samples that any other tool made.

    Example: jsdelta score --samples pgd.npz --ensemble digits --attacked 0 --library torchattacks
    """
    if (attack is None) == (samples is None):
        raise UsageError("jsdelta score needs either --attack UID (stored samples) or --samples FILE.npz")
    if samples is None:
        _refuse_options_for_files(ctx)
    from jsdelta_db.pipeline.evaluation.work import Extras
    from jsdelta_db.pipeline.score import score_foreign, score_stored
    from jsdelta_db.samples.foreign_file import check_samples, read_file
    from jsdelta_db.store.session import open_store
    from jsdelta_db.workbench.workbench import open_workbench

    workspace = ctx.obj.workspace(data_dir)
    rules, extras = EvaluationConfig(temperature), Extras(controls, stability)
    open_store(workspace.db_url).close()
    if samples is None:
        with open_workbench(workspace, TerminalProgress()) as bench:
            judged = score_stored(
                bench, attack or (), evaluators or (), rules=rules, extras=extras, device=device or "auto"
            )
    else:
        arrays = read_file(samples)
        with open_workbench(workspace, TerminalProgress()) as bench:
            judged, measured = score_foreign(
                bench,
                lambda dataset: check_samples(arrays, dataset, library=library, norm=norm),
                RoleRequest(ensemble=ensemble, attacked=attacked, evaluators=evaluators or ()),
                rules=rules,
                extras=extras,
                device=device or "auto",
            )
        _say_measured(measured, norm)
    print_summary(workspace, tuple(judged.evaluations))
    if not judged.worked_on:
        note("these samples were judged so before; nothing was done again")


def _refuse_options_for_files(ctx: typer.Context) -> None:
    """Refuse what says something of FILE where there is none: it would be passed over."""
    for name in ("ensemble", "attacked", "library", "norm"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(
                f"--{name} goes with --samples; who judges stored samples is said by --evaluators"
            )


def _say_measured(measured: "Measured", norm: str) -> None:
    """Say what the samples are, beside what their maker said of them."""
    from jsdelta_db.config.eps import format_eps

    claim = measured.eps_claimed
    claimed = "not claimed" if claim is None else f"{format_eps(claim, norm)} claimed"
    note(f"eps: {format_eps(measured.eps, norm)} measured, {claimed}")
    rate = measured.success_rate_claimed
    said = "not claimed" if rate is None else f"{rate:.1%} claimed"
    note(
        f"success: {measured.success_rate:.1%} of {measured.n_attempts} measured, {said}; "
        f"{measured.n_skipped} images skipped that the model has wrong without any change"
    )
