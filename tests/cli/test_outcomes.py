"""``jsdelta query outcomes``: counted once more from the rows, sample by sample."""

import pytest

from tests.cli.calls import call, query_json
from tests.reading import ask, tell

ROWS = """
SELECT score.js_delta, score.n_right_adv, score.n_at_target_adv, attack.eps
FROM score
JOIN evaluation ON evaluation.id = score.evaluation_id
JOIN attack ON attack.id = evaluation.attack_id
JOIN sample ON sample.attack_id = attack.id AND sample.sample_index = score.sample_index
           AND sample.requested_target = score.requested_target
WHERE sample.success = 1 AND score.js_delta IS NOT NULL
"""


def test_outcomes_are_shares_of_opinions(tiny, capsys):
    """Of every success each of two evaluators has one opinion; shares add up to 1, and bugs are told apart."""
    rows, _ = query_json(capsys, tiny, "outcomes", "--beta", "0.3", "--by", "eps")
    stored = ask(tiny, ROWS)
    assert len(rows) == 6
    for row in rows:
        chosen = [
            each for each in stored
            if each[3] == row["eps"] and (row["samples"] == "all" or (each[0] < 0.3) == (row["samples"] == "bugs"))
        ]  # fmt: skip
        assert (row["n_success"], row["n_opinions"], row["n_unknown"]) == (len(chosen), 2 * len(chosen), 0)
        if not chosen:
            continue
        right, same = (sum(each[place] for each in chosen) / (2 * len(chosen)) for place in (1, 2))
        assert row["unfooled"] == pytest.approx(right)
        assert row["same_mistake"] == pytest.approx(same)
        assert row["unfooled"] + row["same_mistake"] + row["different_mistake"] == pytest.approx(1)


def test_what_is_not_stored_is_counted_and_said(tiny_copy, capsys):
    """Scores of an earlier version have no opinions; a line says what fills them in."""
    tell(tiny_copy, "UPDATE score SET n_right_adv = NULL")
    rows, err = query_json(capsys, tiny_copy, "outcomes", "--eps", "8")
    assert [row["n_opinions"] for row in rows] == [0, 0, 0]
    assert rows[0]["n_unknown"] > 0
    assert rows[0]["unfooled"] is None
    assert "jsdelta doctor --repair fills them in" in err
    assert call(capsys, tiny_copy, "query", "outcomes", "--beta", "0")[0] == 2
