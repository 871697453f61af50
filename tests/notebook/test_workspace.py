"""The workspace of a notebook: its answers are the commands' answers, as Arrow tables."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from matplotlib.figure import Figure

import jsdelta_db
from jsdelta_db.errors import NoStoreError, UnknownNameError, UsageError
from tests.cli.calls import query_json
from tests.reading import ask

QUESTIONS = [
    (lambda ws: ws.bugs(beta=0.1), ["bugs", "--beta", "0.1"]),
    (lambda ws: ws.bugs(by=["eps", "attacked"]), ["bugs", "--by", "eps,attacked"]),
    (lambda ws: ws.bugs([0.01, 0.1], by="eps,label-pair", limit=3),
     ["bugs", "--beta", "0.01", "--beta", "0.1", "--by", "eps,label-pair", "--limit", "3"]),
    (lambda ws: ws.bugs(beta=0.1, eps=3 / 255), ["bugs", "--beta", "0.1", "--eps", "3"]),
    (lambda ws: ws.samples(bugs=0.5), ["samples", "--bugs", "0.5", "--limit", "0"]),
    (lambda ws: ws.samples(failures=True, sort="-js", limit=4),
     ["samples", "--all", "--sort", "-js", "--limit", "4"]),
    (lambda ws: ws.transfer(eps=8 / 255), ["transfer", "--eps", "8"]),
    (lambda ws: ws.ensembles(), ["ensembles"]),
    (lambda ws: ws.attacks(), ["attacks"]),
    (lambda ws: ws.bugs(0.1, where="eps=3,8", measure="median", interval="images"),
     ["bugs", "--beta", "0.1", "--where", "eps=3,8", "--measure", "median", "--interval", "images"]),
    (lambda ws: ws.compare("eps", "8"), ["compare", "--by", "eps", "--baseline", "8"]),
    (lambda ws: ws.sensitivity(), ["sensitivity"]),
    (lambda ws: ws.pairs(by="eps"), ["pairs", "--by", "eps"]),
    (lambda ws: ws.histogram(by="eps", bins=5), ["histogram", "--by", "eps", "--bins", "5"]),
    (lambda ws: ws.quantiles(0.5, by="eps"), ["quantiles", "--q", "0.5", "--by", "eps"]),
]  # fmt: skip


@pytest.mark.parametrize(("ask_here", "command"), QUESTIONS, ids=[" ".join(c) for _, c in QUESTIONS])
def test_answers_are_those_of_the_command(ask_here, command, tiny, capsys):
    """Every column of the command's JSON is there, with the same numbers in the same order."""
    rows, _ = query_json(capsys, tiny, *command)
    found = ask_here(jsdelta_db.open_workspace(tiny.root)).to_pylist()
    # Machines still get judged_by under its old name, too.
    old = {"ensemble"} if rows and "judged_by" in rows[0] else set()
    assert [{key: row[key] for key in rows[0].keys() - old} for row in found] == [
        {key: row[key] for key in row.keys() - old} for row in rows
    ]
    assert rows


def test_tables_are_arrow_and_become_data_frames(tiny):
    """Numbers stay numbers, and missing ones are missing."""
    table = jsdelta_db.open_workspace(tiny.root).bugs(beta=0.1)
    assert table.schema.field("bug_fraction").type == pa.float64()
    assert table.schema.field("n_success").type == pa.int64()
    frame = table.to_pandas()
    assert frame["n_success"].sum() == sum(table["n_success"].to_pylist())
    assert frame["eps"].tolist() == [3 / 255, 8 / 255]


@pytest.mark.parametrize(
    "draw",
    [
        lambda plot: plot.histogram(by="attacked", title="mine"),
        lambda plot: plot.ecdf(title="mine"),
        lambda plot: plot.curve(eps=8 / 255, title="mine"),
        lambda plot: plot.sweep(title="mine", width="page"),
        lambda plot: plot.pairs(title="mine", eps=8 / 255),
        lambda plot: plot.agreement(title="mine"),
    ],
    ids=["histogram", "ecdf", "curve", "sweep", "pairs", "agreement"],
)
def test_figures_are_matplotlibs(draw, tiny):
    """Each is a figure with the title asked for."""
    figure = draw(jsdelta_db.open_workspace(tiny.root).plot)
    assert isinstance(figure, Figure)
    assert any(text.get_text() == "mine" for text in figure.texts)


def test_what_a_row_pools_is_a_warning(tiny):
    """What a command says beside its table, a notebook says as a warning."""
    with pytest.warns(UserWarning, match="pooled over eps: 0.0117"):
        jsdelta_db.open_workspace(tiny.root).bugs(beta=0.1, by="attacked")


def test_one_workspace_works_and_asks(tiny_copy):
    """Work opens the workspace by itself; a block keeps it open, and gives it back in the end."""
    ws = jsdelta_db.open_workspace(tiny_copy.root, data_dir=tiny_copy.data_dir)
    done = ws.attack(5 / 255, ensemble="digits", steps=2, images=12)
    assert ws.bugs(beta=0.1, attack=done.attacks[0])["eps"].to_pylist() == [5 / 255]
    with ws:
        again = ws.score(done.attacks, temperature="fit")
        assert again.attacks == done.attacks
        with pytest.raises(UsageError, match="is open already"):
            ws.__enter__()
    assert ask(tiny_copy, "SELECT count(*) FROM evaluation WHERE owner IS NOT NULL") == [(0,)]


def test_asking_makes_nothing(tmp_path):
    """A mistyped folder is an error, not an empty store."""
    ws = jsdelta_db.open_workspace(tmp_path / "typo")
    with pytest.raises(NoStoreError, match="no store at"):
        ws.bugs()
    assert list(tmp_path.iterdir()) == []


def test_unknown_names_list_what_there_is(tiny):
    """A slip in a keyword is a line with what there is."""
    ws = jsdelta_db.open_workspace(tiny.root)
    with pytest.raises(UnknownNameError, match="unknown option 'metod'"):
        ws.bugs(metod="sam")
    with pytest.raises(UsageError, match="by 3 is not valid: must be a name or a list of names"):
        ws.bugs(by=3)


def test_a_verdict_is_one_line_and_a_table(tiny_copy):
    """Tensors with gradients are judged; the verdict prints in one line and has a row a sample."""
    from jsdelta_db.compute import data

    split = data.load("digits", tiny_copy.data_dir).splits["attack"]
    x = split.batch(slice(0, 12)).requires_grad_()
    verdict = jsdelta_db.judge(
        x, (x + 0.03).clamp(0, 1), split.labels[:12], ensemble="digits", workspace=tiny_copy.root
    )
    assert str(verdict).startswith(f"<Verdict {verdict.evaluation[:8]}: 12 samples, ")
    assert "\n" not in repr(verdict)
    table = verdict.to_arrow()
    assert table["success"].to_pylist() == verdict.success.tolist()
    assert table["js_delta"].null_count == int(np.isnan(verdict.js_delta).sum())
    assert torch.is_tensor(x)
