"""Cards in rows: which one trained a model and made a chunk, and what is remade on another."""

from dataclasses import replace

import pytest
import torch

from jsdelta_db.config.construction import ConstructionRequest
from jsdelta_db.errors import UsageError
from jsdelta_db.pipeline.attack import attack_and_score
from jsdelta_db.pipeline.datasets import build
from jsdelta_db.pipeline.ensembles import member
from jsdelta_db.pipeline.evaluation import judge, plan, sources, work
from jsdelta_db.pipeline.train import train_ensemble
from jsdelta_db.workbench.workbench import open_workbench
from tests.reading import ask, scores_of
from tests.workspaces import DRAWING, tiny_attacks, tiny_recipe

ONE, SAME, OTHER = "cuda:0 NVIDIA H200", "cuda:1 NVIDIA H200", "cuda:0 NVIDIA A100"
CARDS = "SELECT card FROM {}_chunk WHERE {}_id = 3 ORDER BY position"


def on_card(patch, card):
    """Let the pipeline believe that it computes on a card."""
    for module in (member, plan, work, build):
        patch.setattr(module, "card_of", lambda device: card)
    patch.setattr(work, "draw_bytes", lambda figure: DRAWING)


def attack(workspace, card, *, stop_before=None, keeps_samples=False, shift=0.0, flip=False, sub_batch=None):
    """Attack in three chunks on a card whose logits are others by a shift.

    Args:
        stop_before: number of the judgement at which the process is stopped, from 0.
    """
    real, calls = judge.judge, []
    chunk = sources.AttackedSamples.chunk

    def judge_or_stop(*given):
        calls.append(given)
        if len(calls) - 1 == stop_before:
            raise KeyboardInterrupt
        return real(*given)

    def make(self, position, at_once=None):
        made = chunk(self, position, at_once)
        samples = made.samples
        success = samples.success.copy()
        success[0] ^= flip
        samples = replace(samples, logits=samples.logits + samples.logits.dtype.type(shift), success=success)
        return replace(made, describe=lambda: samples, sub_batch=sub_batch)

    with pytest.MonkeyPatch.context() as patch, open_workbench(workspace, chunk_size=8) as bench:
        on_card(patch, card)
        patch.setattr(work, "judge", judge_or_stop)
        patch.setattr(sources.AttackedSamples, "chunk", make)
        return attack_and_score(
            bench, tiny_attacks(5, images=20, steps=3), keeps_samples=keeps_samples
        ).evaluations[0]


def stop(workspace, card):
    """Stop an attack whose first two chunks are attacked, and whose first is judged."""
    with pytest.raises(KeyboardInterrupt):
        attack(workspace, card, stop_before=1)


def test_a_model_says_which_card_trained_it(tiny_copy, monkeypatch):
    """Those trained on a processor say nothing."""
    on_card(monkeypatch, ONE)
    with open_workbench(tiny_copy) as bench:
        train_ensemble(bench, tiny_recipe(members=1, epochs=1), seed=50)
    assert ask(tiny_copy, "SELECT card FROM model ORDER BY id") == [(None,)] * 3 + [(ONE,)]


def test_each_chunk_says_which_card_made_it(tiny_copy):
    """Begun on one card and gone on with on another, an attack has chunks of both, and so have its scores."""
    stop(tiny_copy, ONE)
    attack(tiny_copy, OTHER)
    assert ask(tiny_copy, CARDS.format("attack", "attack")) == [(ONE,), (ONE,), (OTHER,)]
    assert ask(tiny_copy, CARDS.format("evaluation", "evaluation")) == [(ONE,), (OTHER,), (OTHER,)]


def test_a_construction_says_which_cards_made_it(tiny_copy, monkeypatch):
    """All of them, in their order; the second call goes on with what the first began."""
    real, calls = build.make_parts, []

    def stop_once(*given):
        calls.append(given)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(build, "make_parts", stop_once)
    request = ConstructionRequest("det", steps=1, images=16)
    on_card(monkeypatch, ONE)
    with open_workbench(tiny_copy) as bench, pytest.raises(KeyboardInterrupt):
        build.build_dataset(bench, request, ensemble="digits", name="made")
    on_card(monkeypatch, OTHER)
    with open_workbench(tiny_copy) as bench:
        row, _ = build.build_dataset(bench, request, ensemble="digits", name="made")
    assert row.construction["cards"] == [ONE, OTHER]


# ---- chunks that are made once more


@pytest.mark.parametrize(
    ("began", "goes_on", "shift"),
    [(ONE, SAME, 0.0), (ONE, OTHER, 5e-4), (None, None, 0.0), (None, None, 5e-4), (None, ONE, 5e-4)],
)
def test_what_is_remade_alike_is_judged(began, goes_on, shift, tiny_copy):
    """Equal on a card of the same model; elsewhere but for rounding."""
    stop(tiny_copy, began)
    uid = attack(tiny_copy, goes_on, shift=shift)
    assert len(scores_of(tiny_copy, uid)) == 20


@pytest.mark.parametrize(
    ("began", "goes_on", "changes", "shown"),
    [
        (
            ONE,
            SAME,
            {"shift": 5e-4},
            r"0 of 8 reach another label, logits differ by 0\.0005: must be equal there",
        ),
        (ONE, OTHER, {"shift": 2e-3}, r"0 of 8 .* logits differ by 0\.002: must be at most 0\.001"),
        (ONE, OTHER, {"flip": True}, "1 of 8 reach another label, logits differ by 0: "),
        (None, None, {"shift": 2e-3}, "must be at most 0.001"),
        (None, ONE, {"flip": True}, "1 of 8 "),
    ],
)
def test_what_is_remade_otherwise_is_refused(began, goes_on, changes, shown, tiny_copy):
    """One line names both cards; what was finished before is kept."""
    stop(tiny_copy, began)
    before = ask(tiny_copy, "SELECT * FROM score")
    with pytest.raises(UsageError, match=shown) as raised:
        attack(tiny_copy, goes_on, **changes)
    assert f"was made on {began or 'cpu'} " in str(raised.value)
    assert f"otherwise on {goes_on or 'this cpu'} (" in str(raised.value)
    assert ask(tiny_copy, "SELECT * FROM score") == before


def test_other_batches_round_otherwise(tiny_copy):
    """Made again in smaller batches, a chunk is held against what is stored as against another card's."""
    stop(tiny_copy, ONE)
    assert attack(tiny_copy, ONE, shift=5e-4, sub_batch=4)


# ---- arithmetic


def test_evaluators_judge_in_float32_whatever_the_attacked_network_switched_on(tiny_copy, monkeypatch):
    """Its code may allow bfloat16 at every forward pass."""
    real, seen = judge.predict_images, []
    monkeypatch.setattr(
        judge,
        "predict_images",
        lambda *given: (seen.append(torch.get_float32_matmul_precision()), real(*given))[1],
    )
    perturb = sources.find_perturbations

    def switch_on(*given):
        made = perturb(*given)
        torch.set_float32_matmul_precision("medium")
        return made

    monkeypatch.setattr(sources, "find_perturbations", switch_on)
    attack(tiny_copy, None)
    assert set(seen) == {"highest"}
