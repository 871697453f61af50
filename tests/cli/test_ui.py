"""The MLflow pages, in a real browser."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
SECONDS_TO_START = 60


@pytest.fixture(scope="module")
def browser() -> str:
    """A headless Chromium; in CI a missing one is a failure."""
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        assert os.environ.get("CI") != "true", "CI has to install Chromium (.ci/run does)"
        pytest.skip("no Chromium on this machine")
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.3)
    pytest.fail(f"nothing answered at {url}")


def read_page(browser: str, url: str, folder: Path) -> str:
    """Return the page's text after its scripts have run."""
    shown = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync",
            f"--user-data-dir={folder}", "--virtual-time-budget=20000", "--dump-dom", url,
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return shown.stdout


@pytest.mark.parametrize("command", ["jsdelta ui", "mlflow ui"])
def test_the_browser_shows_the_runs(command, tiny_copy, browser, tmp_path):
    """`jsdelta ui` and a bare `mlflow ui` in the workspace list the training and the attack."""
    port = free_port()
    if command == "jsdelta ui":
        argv = [str(BIN / "jsdelta"), "--workspace", str(tiny_copy.root), "ui", "--port", str(port)]
    else:
        argv = [str(BIN / "mlflow"), "ui", "--port", str(port), "--workers", "1"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(argv, cwd=tiny_copy.root, stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(f"http://127.0.0.1:{port}/", server)
            page = read_page(browser, f"http://127.0.0.1:{port}/#/experiments/1/runs", tmp_path / "profile")
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)
    assert "train digits" in page
    assert "attack digits" in page
