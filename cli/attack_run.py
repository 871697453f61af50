"""The attack that ``jsdelta attack`` and ``jsdelta quickstart`` run."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING

from jsdelta_db.config.locations import Workspace

from .attack_options import PlaceOptions, RoleOptions
from .bench import open_bench
from .options import ScoringOptions
from .progress import TerminalProgress

if TYPE_CHECKING:
    from jsdelta_db.config.attack import AttackConfig
    from jsdelta_db.workbench.workbench import Workbench


def run_attack(
    workspace: Workspace,
    configs: Sequence["AttackConfig"],
    roles: RoleOptions,
    scoring: ScoringOptions = ScoringOptions(),  # noqa: B008 frozen
    place: PlaceOptions = PlaceOptions(),  # noqa: B008 frozen
) -> tuple[tuple[str, ...], int]:
    """Run attacks with a progress bar; return the evaluations' uids and how many had work left."""
    from jsdelta_db.exchange.offline import open_offline
    from jsdelta_db.pipeline.attack import attack_and_score
    from jsdelta_db.pipeline.evaluation.roles import RoleRequest

    rules, extras = scoring.rules, scoring.extras  # checked before a store is asked for
    request = RoleRequest(roles.ensemble, roles.attacked, roles.evaluators or (), roles.surrogates or ())
    folder = place.find_folder()
    opened: AbstractContextManager[Workbench]
    if folder is not None:
        opened = open_offline(
            workspace, folder, place.source, configs[0].objective, request, TerminalProgress()
        )
    else:
        opened = open_bench(workspace)
    with opened as bench:
        result = attack_and_score(
            replace(bench, trusts_code=roles.trust_code),
            configs,
            request,
            rules=rules,
            extras=extras,
            keeps_samples=scoring.save_samples,
        )
    return tuple(result.evaluations), result.worked_on
