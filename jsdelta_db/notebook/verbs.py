"""Verbs: train, attack and score, as functions of a workspace and as its methods."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jsdelta_db.config.checks import check, check_device, check_settings, is_whole
from jsdelta_db.notebook.place import Place, check_workspace, working_in
from jsdelta_db.workbench.workbench import Workbench

if TYPE_CHECKING:
    from jsdelta_db.config.attack_by import AttackBy
    from jsdelta_db.pipeline.evaluation.finished import Judged
    from jsdelta_db.pipeline.train import TrainedEnsemble


def train(
    workspace: Place | Workbench,
    recipe: str = "digits",
    *,
    seed: int = 0,
    members: int | None = None,
    name: str | None = None,
    jobs: int = 1,
    download: bool = False,
) -> "TrainedEnsemble":
    """Train members of one recipe with seeds ``seed``, ``seed`` + 1, …; finished ones are reused.

    Example::

        ensemble = jsdelta_db.train(workspace, "digits", members=5)

    Args:
        recipe: name (``jsdelta recipes list``), or a file that ends in ``.toml``.
        members: how many; the recipe's own number if None.
        name: of the ensemble; the recipe's if None.
        jobs: how many members to train at a time.
        download: fetch a data set that is missing.

    Raises:
        JsdeltaError: a name is not valid, data is missing, or a member cannot be trained.
    """
    from jsdelta_db.config.recipes import get_recipe
    from jsdelta_db.pipeline.train import train_ensemble

    check_workspace(workspace)
    check("recipe", recipe, isinstance(recipe, str), "a recipe's name, or a file that ends in .toml")
    check("name", name, name is None or isinstance(name, str), "a name")
    for field, value, least in (("seed", seed, 0), ("members", members, 1), ("jobs", jobs, 1)):
        ok = (field == "members" and value is None) or is_whole(value, least)
        check(field, value, ok, f"a whole number from {least}")
    chosen = get_recipe(recipe).override(members)
    with working_in(workspace) as bench:
        return train_ensemble(bench, chosen, seed=seed, name=name, download=download, jobs=jobs)


def attack(
    workspace: Place | Workbench,
    eps: float | Sequence[float],
    *,
    ensemble: str | None = None,
    attacked: str | int = "first",
    evaluators: str | Sequence[str] = (),
    surrogates: str | Sequence[str] = (),
    fn: Callable[..., Any] | str | None = None,
    arguments: Mapping[str, Any] | None = None,
    accept_eps: bool = False,
    **settings: Any,  # noqa: ANN401 AttackConfig's fields
) -> "Judged":
    """Attack members of an ensemble at every ε; the others judge the samples.

    Example::

        done = jsdelta_db.attack(workspace, eps=[3 / 255, 8 / 255], targets="all")

    Args:
        eps: radii in pixel units of [0, 1], in the norm.
        ensemble, attacked, evaluators, surrogates: see
            :class:`jsdelta_db.pipeline.evaluation.roles.RoleRequest`.
        fn: an attack in place of ours: ``(model, x, label, target_label, eps, norm, **arguments)`` → images,
            or a name such as ``torchattacks:PGD``. What is no function of a file needs a ``version`` among
            its arguments.
        arguments: of ``fn``.
        accept_eps: count samples beyond ε like others.
        settings: of :class:`jsdelta_db.config.attack.AttackConfig`, such as ``steps`` or ``norm``.

    Raises:
        JsdeltaError: a name or a setting is not valid, or nothing could be attacked.
    """
    from jsdelta_db.config.attack import AttackConfig
    from jsdelta_db.config.eps import as_radii
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.pipeline.evaluation.roles import RoleRequest

    check_workspace(workspace)
    request = RoleRequest.from_caller(ensemble, attacked, evaluators, surrogates)
    check_settings(AttackConfig, settings, without=("eps", "attack_by"))
    by = _find_attack(fn, arguments or {}, accept_eps)
    configs = [AttackConfig(eps=each, attack_by=by, **settings) for each in as_radii(eps)]
    with working_in(workspace) as bench:
        return attack_and_score(bench, configs, request)


def _find_attack(
    fn: Callable[..., Any] | str | None, arguments: Mapping[str, Any], accept_eps: bool
) -> "AttackBy | None":
    """Return what takes the place of our steps; None if nothing does."""
    check("accept_eps", accept_eps, isinstance(accept_eps, bool), "True or False")
    if fn is None:
        check("arguments", arguments, not arguments, "left out: they are of fn")
        check("accept_eps", accept_eps, not accept_eps, "left out: it is for fn")
        return None
    from jsdelta_db.compute.attacks.callables import find_attack, wrap_function

    if isinstance(fn, str):
        return find_attack(fn, arguments, accept_eps=accept_eps)
    return wrap_function(fn, arguments, accept_eps=accept_eps)


def score(
    workspace: Place | Workbench,
    attacks: str | Sequence[str],
    evaluators: str | Sequence[str] = (),
    *,
    temperature: str = "1",
    device: str = "auto",
) -> "Judged":
    """Let other evaluators, or the same by other rules, judge stored samples again.

    Example::

        jsdelta_db.score(workspace, done.attacks[0], ["digits:1,2"])

    Args:
        attacks: uids or unique prefixes.
        evaluators: references; those of each attack's first evaluation if empty.
        temperature: ``1``, or ``fit`` for one per evaluator.

    Raises:
        JsdeltaError: a name is not valid, or the samples are not stored.
    """
    from jsdelta_db.config.evaluation import EvaluationConfig
    from jsdelta_db.pipeline.evaluation.roles import as_references
    from jsdelta_db.pipeline.score import score_stored

    check_workspace(workspace)
    uids, judges = as_references("attacks", attacks), as_references("evaluators", evaluators)
    check("attacks", attacks, bool(uids), "one uid or more")
    check_device(device)
    rules = EvaluationConfig(str(temperature))
    with working_in(workspace) as bench:
        return score_stored(bench, uids, judges, rules=rules, device=device)
