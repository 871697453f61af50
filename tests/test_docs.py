"""The pages of the docs: their blocks, run in order, do what the page says."""

import re
import runpy
import shlex
from pathlib import Path

from jsdelta_db.config.locations import resolve_workspace
from tests.cli.calls import call
from tests.reading import ask

PAGES = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```(\w+)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_your_own_data_from_the_first_image_to_the_histogram(tmp_path, mlflow_template, monkeypatch, capsys):
    """Every block runs: files are written, scripts are run, and each command ends well."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    workspace, said = resolve_workspace(tmp_path), []
    for language, file, text in BLOCK.findall((PAGES / "your-own-data.md").read_text(encoding="utf-8")):
        if file:
            Path(file).write_text(text, encoding="utf-8")
            if file.startswith("make_"):
                runpy.run_path(file)
            continue
        assert language == "bash"
        for line in text.splitlines():
            program, *arguments = shlex.split(line)
            assert program == "jsdelta"
            code, out, err = call(capsys, workspace, *arguments)
            assert code == 0, f"{line}: {err}"
            said.append(out)
    ((succeeded, known),) = ask(
        workspace,
        "SELECT sum(success), sum(js_delta IS NOT NULL) FROM sample JOIN score USING (sample_index)",
    )
    assert succeeded > 100
    assert known > 100
    assert len(said) == 5
    assert "cross" in said[3]
    assert Path("shapes.png").read_bytes().startswith(b"\x89PNG")


def test_python_from_training_to_a_verdict(tmp_path, mlflow_template, monkeypatch):
    """Every block of the page runs, one after the other, in one Python."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits-runs").mkdir()
    (tmp_path / "digits-runs" / "mlflow.db").write_bytes(mlflow_template.read_bytes())
    names: dict[str, object] = {}
    blocks = BLOCK.findall((PAGES / "python.md").read_text(encoding="utf-8"))
    for _, _, text in blocks:
        exec(text, names)
    assert len(blocks) == 4
    workspace = resolve_workspace(tmp_path / "digits-runs")
    assert ask(workspace, "SELECT library, count(*) FROM attack GROUP BY library") == [
        ("jsdelta", 4),
        ("noise", 1),
    ]
