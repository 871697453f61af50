"""The command ``jsdelta``: wires the groups together and turns errors into one line and an exit code."""

import io
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated

import typer

from jsdelta_db.errors import JsdeltaError, StoreNotReadyError, UsageError
from jsdelta_db.runtime.redaction import redact

from . import (
    attack,
    attacks,
    compare,
    config,
    dataset,
    db,
    delete,
    distributions,
    doctor,
    ensembles,
    export,
    models,
    moving,
    plot,
    plot_matrices,
    query,
    quickstart,
    recipes,
    score,
    sql,
    train,
    ui,
)
from .commands import App
from .options import CommandContext
from .output import note

EXIT_FAILURE, EXIT_USAGE, EXIT_NOT_READY, EXIT_INTERRUPTED = 1, 2, 3, 130

app = App(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
for command in (quickstart.quickstart, train.train, score.score, ui.ui, doctor.doctor):
    app.command()(command)
attack.app.command()(export.export)
for question in (
    compare.compare,
    distributions.pairs,
    distributions.histogram,
    distributions.quantiles,
    distributions.outcomes,
    sql.sql,
):
    query.app.command()(question)
query.app.command("attacks")(attacks.list_attacks)
for figure in (plot_matrices.pairs, plot_matrices.agreement):
    plot.app.command()(figure)
plot.app.command("compare")(compare.plot_compare)
db.app.command()(delete.delete)
db.app.command()(moving.export)
db.app.command("import")(moving.import_)
for name, group in (
    ("attack", attack.app),
    ("attacks", attacks.app),
    ("models", models.app),
    ("ensembles", ensembles.app),
    ("dataset", dataset.app),
    ("query", query.app),
    ("plot", plot.app),
    ("recipes", recipes.app),
    ("db", db.app),
    ("config", config.app),
):
    app.add_typer(group, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        from jsdelta_db.runtime.version import installed_version

        typer.echo(f"jsdelta {installed_version()}")
        raise typer.Exit


Root = Annotated[
    Path | None,
    typer.Option(
        "--workspace", "-w", metavar="FOLDER", help="Folder of the store and MLflow's files (JSDELTA_HOME)."
    ),
]
Version = Annotated[
    bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
]


@app.callback()
def configure(ctx: typer.Context, workspace: Root = None, version: Version = False) -> None:
    """Tell adversarial bugs from non-robust features, and keep the record.

    Start with [bold]jsdelta quickstart[/bold], or with jsdelta train --seed 0, jsdelta attack --eps 3
    and jsdelta query bugs --beta 0.01.
    """
    del version
    ctx.obj = CommandContext(workspace)


def main() -> None:
    """Run the command line and exit with its code."""
    _prepare_streams()
    sys.exit(run(sys.argv[1:]))


def _prepare_streams() -> None:
    """Give every stream somewhere to go, and every character something to be written as."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:  # closed: its number must not become a database's
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 for the whole process
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def run(arguments: list[str]) -> int:
    """Run one command; every failure becomes one line on stderr and an exit code."""
    try:
        code = app(arguments, prog_name="jsdelta", standalone_mode=False)
    except typer.TyperException as error:
        return _report_usage(error)
    except JsdeltaError as error:
        if error.__cause__ is not None:  # such as what the user's network raised
            _print_traceback()
        _print_error(str(error))
        if isinstance(error, UsageError):
            return EXIT_USAGE
        return EXIT_NOT_READY if isinstance(error, StoreNotReadyError) else EXIT_FAILURE
    except (KeyboardInterrupt, typer.Abort):
        code = EXIT_INTERRUPTED
    except SystemExit as error:  # of a network's own code: the work is not done, whatever it says
        if "_JSDELTA_COMPLETE" in os.environ:  # Typer's way to end after it has completed a line
            raise
        _print_error(f"code of the user's ended the program (SystemExit: {error})")
        return EXIT_FAILURE
    except BrokenPipeError:
        _drop_output()  # the reader has gone (``| head``)
        return EXIT_FAILURE
    except OSError as error:
        return _report_system_error(error)
    except Exception as error:  # noqa: BLE001 a defect: one line, with the way to its traceback
        return _report_defect(error)
    if code == EXIT_INTERRUPTED:
        _print_error(
            "interrupted; finished members and chunks are stored; run the same command again to resume"
        )
    return code if isinstance(code, int) else 0


def _drop_output() -> None:
    """Discard buffered output, so that an output that is gone or full does not fail at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _report_system_error(error: OSError) -> int:
    """Report in one line what the operating system refused, and of which file."""
    from jsdelta_db.runtime.reasons import HELP, explain

    if error.errno is None or (error.filename is None and error.errno not in HELP):
        return _report_defect(error)
    if error.errno in HELP:
        _drop_output()
    where = f"{str(error.filename)!r} cannot be used" if error.filename else "the output cannot be written"
    _print_error(f"{where}: {explain(error, 'choose another place')}")
    return EXIT_FAILURE


def _report_defect(error: Exception) -> int:
    """Report an unexpected error in one line, with the way to its traceback."""
    _print_traceback()
    message = f"{type(error).__name__}: {_redact(str(error))}"
    _print_error(f"{message}; a defect: set JSDELTA_DEBUG=1 for the traceback and report it")
    return EXIT_FAILURE


def _print_traceback() -> None:
    """Print the traceback of the error at hand, if it was asked for."""
    if os.environ.get("JSDELTA_DEBUG"):
        typer.echo(_redact(traceback.format_exc()), err=True, nl=False)


def _redact(text: str) -> str:
    return redact(text, [os.environ.get(name) for name in ("JSDELTA_DB_URL", "MLFLOW_TRACKING_URI")])


def _report_usage(error: typer.TyperException) -> int:
    """Report an error of the parser in one line; without a command it has shown the help."""
    context = getattr(error, "ctx", None)
    message = error.format_message()
    if not message.strip():  # no command given: Rich has printed the help already
        return EXIT_USAGE
    command = context.command_path if context is not None else "jsdelta"
    message = " ".join(message.split()).rstrip(".").replace("Value error, ", "")
    _print_error(f"{message}; see {command} --help")
    return error.exit_code


def _print_error(message: str) -> None:
    note(f"jsdelta: {' '.join(message.split())}")
