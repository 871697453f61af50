"""Somebody's attack, end to end: called on chunks, stored, judged, resumed, counted."""

import pytest
import torch

import jsdelta_db
from jsdelta_db.compute.attacks.callables import find_attack
from jsdelta_db.config.attack import AttackConfig
from jsdelta_db.config.eps import farthest
from jsdelta_db.errors import AttackError, StoreError, UsageError
from jsdelta_db.maintenance.check import find_problems
from jsdelta_db.maintenance.repair import repair
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.evaluation import work
from jsdelta_db.pipeline.evaluation.finished import Extras
from jsdelta_db.queries.bugs import js_delta_by_eps, query_bugs
from jsdelta_db.queries.samples import Wanted, query_samples
from jsdelta_db.queries.selection import Selection
from jsdelta_db.workbench.workbench import open_workbench
from tests import somebodys
from tests.exchange.moving import bring, workspace_at
from tests.reading import ask, attack_of, chunks_of, contents, hashes_of, samples_of, scores_of, tell

EPS = 8 / 255
IMAGES = 24


def configure(name: str, *, accept_eps=False, arguments=None, **settings) -> AttackConfig:
    by = find_attack(f"tests.somebodys:{name}", arguments or {}, accept_eps=accept_eps)
    return AttackConfig(**{"eps": EPS, "images": IMAGES, "attack_by": by, **settings})


def attack(workspace, *configs, **options):
    with open_workbench(workspace, chunk_size=8) as bench:
        return attack_and_score(bench, configs, **options)


def count(workspace, judged, by=(), betas=(0.1,)):
    with open_workbench(workspace) as bench, bench.store.reading() as connection:
        return query_bugs(connection, betas, by, Selection(uids=tuple(judged.attacks))).rows


def test_it_is_stored_and_judged_like_ours(tiny_copy):
    """Its samples, scores and files are there and whole; the row says whose they are."""
    done = attack(tiny_copy, configure("fgsm"))
    (row,) = count(tiny_copy, done)
    assert row["n_attempted"] + row["n_no_baseline"] + row["n_skipped"] == IMAGES
    assert row["n_success"] > 0
    assert row["n_outside"] == 0
    ((library, version, steps),) = ask(
        tiny_copy, "SELECT library, library_version, steps FROM attack WHERE uid = ?", done.attacks[0]
    )
    assert (library, version[:7], steps) == ("tests.somebodys:fgsm", "sha256:", 0)
    assert len(chunks_of(tiny_copy, done.evaluations[0])) == 3
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        assert list(find_problems(connection, tiny_copy.root)) == []


def test_one_step_of_ours_is_theirs(tiny_copy):
    """A signed step by the callable reaches what our own step of ε reaches."""
    theirs = attack(tiny_copy, configure("fgsm"))
    ours = AttackConfig(
        eps=EPS, images=IMAGES, steps=1, relative_step_size=1.0, random_start=False, dtype="float32"
    )
    mine = attack(tiny_copy, ours)
    assert [row[:5] for row in samples_of(tiny_copy, theirs.evaluations[0])] == [
        row[:5] for row in samples_of(tiny_copy, mine.evaluations[0])
    ]


@pytest.mark.parametrize("keeps_samples", [True, False])
def test_stopped_and_gone_on_with_it_is_the_same(keeps_samples, tiny, tmp_path, monkeypatch):
    """Random numbers belong to the chunk: rows and files after a stop are those of a run in one go."""
    from tests.workspaces import copy_of

    whole, stopped = copy_of(tiny, tmp_path / "whole"), copy_of(tiny, tmp_path / "stopped")
    done = attack(whole, configure("steps"), keeps_samples=keeps_samples)
    real, calls = work.judge, []

    def stop(*given):
        calls.append(given)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*given)

    with monkeypatch.context() as patch:
        patch.setattr(work, "judge", stop)
        with pytest.raises(KeyboardInterrupt):
            attack(stopped, configure("steps"), keeps_samples=keeps_samples)
    torch.manual_seed(5)  # what ran in between does not matter
    again = attack(stopped, configure("steps"), keeps_samples=keeps_samples)
    assert again.worked_on == 1
    for read in (samples_of, scores_of, hashes_of):
        assert read(stopped, again.evaluations[0]) == read(whole, done.evaluations[0])
    assert attack(stopped, configure("steps"), keeps_samples=keeps_samples).worked_on == 0


def test_passes_are_counted(tiny_copy):
    """Three steps are three passes each way for every image, ours and theirs."""
    theirs = attack(tiny_copy, configure("steps"))
    ours = attack(tiny_copy, AttackConfig(eps=EPS, images=IMAGES, steps=3, restarts=2))
    sums = (
        "SELECT sum(forward_passes), sum(backward_passes), sum(attack_chunk.n_attempts) FROM attack_chunk "
        "JOIN attack ON attack.id = attack_id WHERE uid = ?"
    )
    for done, per_image in ((theirs, 3), (ours, 6)):
        ((forward, backward, n),) = ask(tiny_copy, sums, done.attacks[0])
        assert (forward, backward) == (per_image * n, per_image * n)


def test_samples_beyond_eps_do_not_count(tiny_copy):
    """``success`` is what the model said; what lies outside is counted beside it, and as no success or bug."""
    done = attack(tiny_copy, configure("too_far", eps=4 / 255))
    columns = "success, outside, linf FROM sample JOIN attack ON attack.id = attack_id WHERE uid = ?"
    samples = ask(tiny_copy, f"SELECT {columns}", done.attacks[0])
    assert [outside for _, outside, _ in samples] == [int(linf > farthest(4 / 255)) for *_, linf in samples]
    n_outside = sum(outside for _, outside, _ in samples)
    assert n_outside >= len(samples) // 3
    assert any(success and outside for success, outside, _ in samples)
    inside = sum(success and not outside for success, outside, _ in samples)
    (row,) = count(tiny_copy, done, betas=[100.0])
    assert (row["n_outside"], row["n_success"], row["n_bugs"]) == (n_outside, inside, inside)
    assert row["n_attempted"] == len(samples)
    by_label = count(tiny_copy, done, ["label-pair"])
    assert sum(each["n_success"] for each in by_label) == inside
    assert {each["n_outside"] for each in by_label} == {None}
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        chosen = Selection(uids=tuple(done.attacks))
        listed, _ = query_samples(connection, Wanted(limit=0), chosen)
        everything, _ = query_samples(connection, Wanted(limit=0, failures=True), chosen)
    assert len(listed) == inside
    assert sum(each["outside"] for each in everything) == n_outside


@pytest.mark.parametrize("change", ["1 - outside", "NULL"])
def test_what_lies_outside_is_known_by_its_size(change, tiny_copy):
    """``db check`` finds samples that say otherwise, and the repair takes them from their files again."""
    done = attack(tiny_copy, configure("too_far"))
    before = contents(tiny_copy)
    tell(tiny_copy, f"UPDATE sample SET outside = {change} WHERE outside IS NOT NULL")
    with open_workbench(tiny_copy) as bench:
        with bench.store.reading() as connection:
            found = list(find_problems(connection, tiny_copy.root))
        lines = repair(bench)
    assert any(f"attack {done.attacks[0]}" in line for line in found)
    assert [line for line in lines if "from their files again" in line]
    assert contents(tiny_copy) == before


def test_accepted_samples_count_and_are_never_pooled(tiny_copy):
    """With ``accept_eps`` all successes count, in a row of their own whatever is asked for."""
    strict = attack(tiny_copy, configure("too_far"))
    accepting = attack(tiny_copy, configure("too_far", accept_eps=True))
    assert strict.attacks != accepting.attacks
    said = "SELECT sum(success) FROM sample JOIN attack ON attack.id = attack_id WHERE uid = ?"
    ((successes,),) = ask(tiny_copy, said, accepting.attacks[0])
    (row,) = count(tiny_copy, accepting)
    assert (row["n_success"], row["n_outside"]) == (successes, 0)
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        rows = query_bugs(connection, [0.1], ["norm"]).rows
    assert [each["accept_eps"] for each in rows] == [None, accepting.attacks[0]]
    assert rows[1]["n_success"] == successes


def test_other_arguments_are_another_attack(tiny_copy):
    """Arguments are hashed, and a column of the table tells the attacks apart."""
    both = [attack(tiny_copy, configure("steps", arguments={"n": n})) for n in (1, 2)]
    assert both[0].attacks != both[1].attacks
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        uids = tuple(uid for done in both for uid in done.attacks)
        rows = query_bugs(connection, [0.1], selection=Selection(uids=uids)).rows
    assert [row["attack_by"].partition("@")[0] for row in rows] == [
        "tests.somebodys:steps(n=1)", "tests.somebodys:steps(n=2)",
    ]  # fmt: skip


@pytest.mark.parametrize(("name", "says"), somebodys.BAD.items())
def test_a_bad_one_is_refused_in_one_line(name, says, tiny_copy):
    """What is no attack is tried on a few images first: one line says what it did, and nothing is stored."""
    before = contents(tiny_copy)
    with pytest.raises(AttackError, match=says) as caught:
        attack(tiny_copy, configure(name))
    assert "\n" not in str(caught.value)
    assert f"tests.somebodys:{name}" in str(caught.value)
    assert torch.is_grad_enabled()
    assert contents(tiny_copy) == before


def test_it_cannot_change_the_attacked_model(tiny_copy):
    """It works on a copy: an attack that ruins its network changes nothing for the next chunk, or for us."""
    done = attack(tiny_copy, configure("network_eater"))
    harmless = attack(tiny_copy, configure("fgsm"))
    assert samples_of(tiny_copy, done.evaluations[0]) == samples_of(tiny_copy, harmless.evaluations[0])


def test_untargeted_it_gets_no_target(tiny_copy):
    """``target_label`` is None where any wrong label will do."""
    done = attack(tiny_copy, configure("fgsm", targets="untargeted"))
    (row,) = count(tiny_copy, done)
    assert row["n_success"] > 0


@pytest.mark.parametrize("setting", [{"steps": 40}, {"restarts": 2}, {"dtype": "bfloat16"}])
def test_settings_of_our_steps_are_refused(setting):
    """A row must not record a setting that nothing obeyed."""
    with pytest.raises(UsageError, match="--set KEY=VALUE") as caught:
        configure("fgsm", **setting)
    assert caught.value.key == next(iter(setting))


def test_a_function_of_the_caller(tiny_copy):
    """From Python a function is enough, by the name that it has; a closure must name its version."""
    with jsdelta_db.open_workspace(tiny_copy.root) as workspace:
        done = jsdelta_db.attack(workspace, EPS, fn=somebodys.fgsm, images=IMAGES)
        named = jsdelta_db.attack(workspace, EPS, fn="tests.somebodys:fgsm", images=IMAGES)
        for alone in ({"arguments": {"n": 1}}, {"accept_eps": True}):
            with pytest.raises(UsageError, match="left out"):
                jsdelta_db.attack(workspace, EPS, images=IMAGES, **alone)
        with pytest.raises(UsageError, match="--set version=1"):
            jsdelta_db.attack(workspace, EPS, fn=lambda *given: somebodys.fgsm(*given), images=IMAGES)
        closed = jsdelta_db.attack(
            workspace, EPS, fn=lambda *given: somebodys.fgsm(*given), arguments={"version": 1}, images=IMAGES
        )
    assert named.attacks == done.attacks
    assert closed.attacks != done.attacks
    assert samples_of(tiny_copy, closed.evaluations[0]) == samples_of(tiny_copy, done.evaluations[0])
    assert attack_of(tiny_copy, done.evaluations[0]) == done.attacks[0]


def test_figures_do_not_pool_accepted_samples(tiny_copy):
    """A panel of a figure is what it is: it asks for one attack instead."""
    accepting = attack(tiny_copy, configure("too_far", accept_eps=True))
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        with pytest.raises(UsageError, match="--accept-eps is pooled with no other"):
            js_delta_by_eps(connection)
        assert js_delta_by_eps(connection, Selection(uids=tuple(accepting.attacks)))


def test_a_subset_of_the_images_is_not_counted_twice(tiny_copy):
    """The same attack on fewer images is part of the larger one, as with ours."""
    attack(tiny_copy, configure("fgsm"))
    attack(tiny_copy, configure("fgsm", images=12))
    with open_workbench(tiny_copy) as bench, bench.store.reading() as connection:
        (row,) = query_bugs(connection, [0.1], ["library"], Selection(library="tests.somebodys:fgsm")).rows
    assert row["n_attempted"] + row["n_no_baseline"] + row["n_skipped"] == IMAGES


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "UPDATE sample SET outside = 1 - outside WHERE outside IS NOT NULL",
        """UPDATE attack SET attack_by = '{"name": 3}' WHERE attack_by IS NOT NULL""",
    ],
)
def test_it_moves_with_an_export(damage, tiny_copy, tmp_path):
    """Another store gets whose attack it was and what lies outside; what does not fit together is refused."""
    done = attack(tiny_copy, configure("too_far", eps=4 / 255))
    there = workspace_at(tmp_path / "there")
    if damage:
        tell(tiny_copy, damage)
        with pytest.raises(StoreError, match=r"outside is not|attack_by"):
            bring(there, str(tiny_copy.root))
        return
    bring(there, str(tiny_copy.root))
    assert count(there, done) == count(tiny_copy, done)
    assert count(there, done)[0]["n_outside"] > 0
    facts = "SELECT attack_by, library_version FROM attack WHERE attack_by IS NOT NULL"
    assert ask(there, facts) == ask(tiny_copy, facts)


def test_extras_are_measured(tiny_copy):
    """Controls and stability work on somebody's samples as on ours."""
    extras = Extras(controls=True, stability=True)
    done = attack(tiny_copy, configure("fgsm"), extras=extras)
    without = (
        "SELECT count(*) FROM sample JOIN attack ON attack.id = attack_id "
        "WHERE uid = ? AND success = 1 AND stability IS NULL"
    )
    assert ask(tiny_copy, without, done.attacks[0]) == [(0,)]
    assert attack(tiny_copy, configure("fgsm"), extras=extras).worked_on == 0
