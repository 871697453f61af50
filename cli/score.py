"""``jsdelta score``: score stored samples again, or samples that were made elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.errors import UsageError

from . import options
from .bench import open_bench
from .bug_table import note_controls, print_summary
from .groups import with_groups
from .normalization import parse_normalization
from .output import note

if TYPE_CHECKING:
    from jsdelta_db.pipeline.evaluation.foreign import Measured

Attack = Annotated[
    list[str] | None, typer.Option(metavar="UID", help="Stored samples of this attack (repeatable).")
]
Samples = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.npz|FILE.pt|FOLDER",
        help="Samples from elsewhere: x, x_adv, label, target_label; torchattacks' .pt; or PNGs in clean/ "
        "and adv/ with labels.csv (name,label,target).",
    ),
]
Attacked = Annotated[
    str, typer.Option(metavar="first|SEED|MODEL", help="The model that FILE was made against.")
]
Library = Annotated[str, typer.Option(metavar="NAME", help="Maker of FILE, such as torchattacks==3.5.1.")]
Mean = Annotated[
    str | None,
    typer.Option(metavar="M,M,M|dataset", help="Undo a normalization of FILE's images: its mean."),
]
Std = Annotated[
    str | None,
    typer.Option(metavar="S,S,S|dataset", help="Undo it: its standard deviation."),
]
Norm = Annotated[str, typer.Option(metavar="linf|l2", help="The norm to measure FILE's samples in.")]


@with_groups
def score(
    ctx: typer.Context,
    *,
    attack: Attack = None,
    samples: Samples = None,
    evaluators: options.Evaluators = None,
    ensemble: options.Ensemble = None,
    attacked: Attacked = "first",
    library: Library = "unknown",
    norm: Norm = "linf",
    mean: Mean = None,
    std: Std = None,
    scoring: options.ScoringStored,
    trust_code: options.TrustCode = False,
    data_dir: options.DataDir = None,
    device: options.Device = None,
) -> None:
    """Score stored samples by other evaluators or rules, or samples made by any other tool.

    Example: jsdelta score --samples pgd.npz --ensemble digits --attacked 0 --library torchattacks
    """
    if (attack is None) == (samples is None):
        raise UsageError(
            "jsdelta score needs either --attack UID (stored samples) or --samples FILE.npz (or .pt, FOLDER)"
        )
    if samples is None:
        _refuse_options_for_files(ctx)
    normalization = parse_normalization(mean, std)
    from jsdelta_db.pipeline.evaluation.roles import RoleRequest
    from jsdelta_db.pipeline.score import score_foreign, score_stored

    workspace = ctx.obj.workspace(data_dir)
    rules, extras, place = scoring.rules, scoring.extras, device or "auto"
    arrays = None
    if samples is not None:
        from jsdelta_db.samples.foreign import check_samples, read_samples

        arrays = read_samples(samples)
    with open_bench(workspace, trusts_code=trust_code) as bench:
        if arrays is None:
            result = score_stored(
                bench, attack or (), evaluators or (), rules=rules, extras=extras, device=place
            )
        else:
            result, measured = score_foreign(
                bench,
                lambda dataset: check_samples(
                    arrays, dataset, library=library, norm=norm, normalization=normalization
                ),
                RoleRequest(ensemble, attacked, evaluators or ()), rules=rules, extras=extras, device=place,
            )  # fmt: skip
            _note_measured(measured, norm)
    print_summary(workspace, tuple(result.evaluations))
    if scoring.controls:
        note_controls(workspace, tuple(result.evaluations))
    if not result.worked_on:
        note("these evaluations were finished before; nothing was done again")


def _refuse_options_for_files(ctx: typer.Context) -> None:
    """Refuse options that describe FILE where there is none: they would be ignored."""
    for name in ("ensemble", "attacked", "library", "norm", "mean", "std"):
        source = ctx.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise UsageError(f"--{name} goes with --samples; stored samples are scored by --evaluators")


def _note_measured(measured: "Measured", norm: str) -> None:
    """Name, on stderr, the samples' size and success beside those that their maker claimed."""
    from jsdelta_db.config.eps import format_eps

    eps, rate = measured.eps_claimed, measured.success_rate_claimed
    eps_claim = "not claimed" if eps is None else f"{format_eps(eps, norm)} claimed"
    note(f"eps: {format_eps(measured.eps, norm)} measured, {eps_claim}")
    rate_claim = "not claimed" if rate is None else f"{rate:.1%} claimed"
    note(
        f"success: {measured.success_rate:.1%} of {measured.n_attempts} measured, {rate_claim}; "
        f"{measured.n_skipped} images skipped that the model already misclassifies"
    )
