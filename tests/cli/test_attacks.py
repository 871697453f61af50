"""``jsdelta query attacks`` and ``jsdelta attacks show``."""

import json

from tests.cli.calls import call, query_json, refused
from tests.reading import ask, tell


def test_attacks_are_listed_with_their_progress(tiny_copy, capsys):
    """Finished and unfinished ones, with what is done of them; the list can be narrowed to the latter."""
    tell(tiny_copy, "UPDATE attack_chunk SET status = 'pending' WHERE attack_id = 2")
    rows, _ = query_json(capsys, tiny_copy, "attacks")
    attempts = ask(tiny_copy, "SELECT uid, n_attempts, eps FROM attack ORDER BY id")
    assert [(row["attack"], row["attempts"], row["eps"]) for row in rows] == attempts
    assert [row["status"] for row in rows] == ["finished", "unfinished"]
    assert [row["attempts_done"] for row in rows] == [attempts[0][1], 0]
    uids = ask(tiny_copy, "SELECT uid FROM evaluation ORDER BY attack_id")
    assert [(row["evaluations"],) for row in rows] == uids
    left, _ = query_json(capsys, tiny_copy, "attacks", "--unfinished")
    assert left == rows[1:]


def test_one_attack_is_shown_whole(tiny, capsys):
    """By its uid or that of an evaluation; for people as facts, for machines as one row."""
    ((attack, evaluation),) = ask(
        tiny, "SELECT attack.uid, evaluation.uid FROM attack JOIN evaluation ON attack_id = attack.id LIMIT 1"
    )
    for uid in (attack, evaluation, attack[:6]):
        code, out, err = call(capsys, tiny, "attacks", "show", uid, "--format", "json")
        assert (code, err) == (0, f"its bugs: jsdelta query bugs --attack {attack[:8]}\n")
        (row,) = json.loads(out)
        assert (row["attack"], row["steps"], row["seed"]) == (attack, 10, 0)
        assert row["evaluators"].startswith(f"{evaluation[:8]}: 1@")
    lines = [line.split() for line in call(capsys, tiny, "attacks", "show", attack)[1].splitlines()]
    assert ["attacked", row["attacked"]] in lines
    refused(capsys, tiny, 2, "unknown attack 'zz'; there is: ", "attacks", "show", "zz")
