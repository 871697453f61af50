"""``jsdelta ui``: the MLflow UI of the workspace."""

import signal
import socket
import subprocess
import sys
from typing import Annotated

import typer

from jsdelta_db.config.locations import Workspace
from jsdelta_db.errors import NothingToDoError, UsageError

from . import options
from .output import say

Port = Annotated[int, options.whole("Port to listen on.", 1, 65535)]
Host = Annotated[str, typer.Option(help="Address to listen on.")]


def ui(ctx: typer.Context, port: Port = 5000, host: Host = "127.0.0.1") -> None:
    """Show this workspace's runs in the MLflow UI, until Ctrl-C.

    Example: jsdelta ui --port 5000
    """
    from jsdelta_db.runtime.redaction import hide_password

    workspace: Workspace = ctx.obj.workspace()
    if workspace.tracking_uri:
        say(hide_password(workspace.tracking_uri))  # a server of its own shows the runs already
        return
    if not workspace.mlflow_file.exists():
        raise NothingToDoError(f"{workspace.root} has no MLflow runs yet; make some with jsdelta quickstart")
    _check_port(host, port)
    say(f"http://{host}:{port}")
    sys.stdout.flush()  # the server takes over from here
    _serve(workspace, host, port)


def _check_port(host: str, port: int) -> None:
    """Check that a port is free: MLflow's own error comes late and long."""
    if not host:  # every address of this machine, for the system
        raise UsageError("--host '' is no host name; try --host 127.0.0.1")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UsageError(
                f"--port {port} on {host} cannot be used ({error.strerror}); try --port {port + 1}"
            ) from error
        except (UnicodeError, TypeError) as error:  # both of a name that is none
            raise UsageError(f"--host {host!r} is no host name; try --host 127.0.0.1") from error


def _serve(workspace: Workspace, host: str, port: int) -> None:
    """Run MLflow's server until it is stopped; its failure is the command's."""
    # Relative to the workspace, whose name may hold what an address cannot.
    store = f"sqlite:///{workspace.mlflow_file.name}"
    command = [
        sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", store,
        "--default-artifact-root", workspace.runs_dir.as_uri(),
        "--host", host, "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    server = subprocess.Popen(command, cwd=workspace.root)
    previous = signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.wait()  # Ctrl-C reaches the server, too: how it is meant to be stopped
        return
    finally:
        signal.signal(signal.SIGTERM, previous)
    raise typer.Exit(max(code, 0))  # ended by our SIGTERM: not a failure
