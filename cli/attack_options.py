"""Options of ``jsdelta attack``, and the records that groups of them make."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.eps import parse_eps
from jsdelta_db.errors import UsageError

from . import options
from .groups import Group

if TYPE_CHECKING:
    from jsdelta_db.config.attack import AttackConfig
    from jsdelta_db.config.attack_by import AttackBy as SomebodysAttack

Eps = Annotated[
    list[str] | None,
    typer.Option(metavar="EPS", help="Radius: linf in 1/255 or a fraction, l2 a plain number (repeatable)."),
]
Attacked = Annotated[str, typer.Option(metavar="first|all|SEED|MODEL", help="Which models to attack.")]
Surrogates = Annotated[
    list[str] | None,
    typer.Option(metavar="SEEDS|MODEL", help="Models held back for --objective bug or feature."),
]


@dataclass(frozen=True, slots=True)
class RoleOptions:
    """References to the models that take part."""

    ensemble: options.Ensemble = None
    attacked: Attacked = "first"
    evaluators: options.Evaluators = None
    surrogates: Surrogates = None
    trust_code: options.TrustCode = False


Roles = Annotated[RoleOptions, Group(RoleOptions)]

Targets = Annotated[
    str,
    typer.Option(
        metavar="random|all|next|least-likely|untargeted|LABEL", help="Which wrong labels to aim at."
    ),
]
Untargeted = Annotated[bool, typer.Option("--untargeted", help="The same as --targets untargeted.")]
Norm = Annotated[str, typer.Option(metavar="linf|l2", help="The norm that EPS is in.")]
Steps = Annotated[int, options.whole("Gradient steps.", 1)]
RelativeStepSize = Annotated[float, typer.Option(metavar="FACTOR", help="Step size in units of EPS / steps.")]
RandomStart = Annotated[
    bool, typer.Option("--random-start/--no-random-start", help="Start anywhere in the ball.")
]
Restarts = Annotated[int, options.whole("Starts per image; the best result counts.", 1)]
Objective = Annotated[str, typer.Option(metavar="target|margin|bug|feature", help="What the steps minimize.")]
Stop = Annotated[str, typer.Option(metavar="never|first-hit", help="When an image's steps end early.")]
AttackBy = Annotated[
    str | None,
    typer.Option(metavar="CALLABLE", help="Somebody's attack: module:callable or torchattacks:PGD."),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="An argument for --attack-by (repeatable)."),
]
AcceptEps = Annotated[bool, typer.Option("--accept-eps", help="Count its samples beyond EPS like others.")]
SplitOption = Annotated[
    str, typer.Option("--split", metavar="train|baseline|attack", help="Whose images to attack.")
]
Images = Annotated[int | None, options.whole("How many images of the split.", 1)]
Seed = Annotated[int, options.whole("Seed of targets and starts.", 0)]
Yes = Annotated[bool, typer.Option("--yes", help="Start also with more than 100 targets an image.")]


@dataclass(frozen=True, slots=True)
class MethodOptions:
    """How samples are made, at every ε."""

    targets: Targets = "random"
    untargeted: Untargeted = False
    norm: Norm = "linf"
    steps: Steps = 100
    relative_step_size: RelativeStepSize = 2.5
    random_start: RandomStart = True
    restarts: Restarts = 1
    objective: Objective = "target"
    stop: Stop = "never"
    split: SplitOption = "attack"
    images: Images = None
    seed: Seed = 0
    yes: Yes = False
    attack_by: AttackBy = None
    arguments: Arguments = None
    accept_eps: AcceptEps = False

    def configure(self, eps: Sequence[str], dtype: str, device: str) -> "list[AttackConfig]":
        """Return one configuration per ε, the smallest first.

        Raises:
            UsageError: a value that is not valid, or two options that exclude each other.
        """
        from jsdelta_db.config.attack import AttackConfig

        if self.untargeted and self.targets not in ("random", "untargeted"):
            raise UsageError(
                f"--untargeted aims at no label, and --targets {self.targets!r} does; give one of them"
            )
        by = self._find_attack()
        return [
            AttackConfig(
                eps=value, steps=self.steps, targets="untargeted" if self.untargeted else self.targets,
                seed=self.seed, split=self.split, images=self.images, norm=self.norm, yes=self.yes,
                random_start=self.random_start,
                relative_step_size=self.relative_step_size, restarts=self.restarts, dtype=dtype,
                objective=self.objective, stop=self.stop, device=device, attack_by=by,
            )
            for value in sorted({parse_eps(text, self.norm) for text in eps})
        ]  # fmt: skip

    def _find_attack(self) -> "SomebodysAttack | None":
        """Return what ``--attack-by`` names; None for our own steps."""
        if self.attack_by is None:
            if self.arguments or self.accept_eps:
                raise UsageError("--set and --accept-eps go with --attack-by; name it, or leave them out")
            return None
        from jsdelta_db.compute.attacks.callables import find_attack
        from jsdelta_db.config.arguments import parse_arguments

        return find_attack(self.attack_by, parse_arguments(self.arguments or ()), accept_eps=self.accept_eps)


Method = Annotated[MethodOptions, Group(MethodOptions)]

Offline = Annotated[
    bool,
    typer.Option("--offline", help="Work in --output alone; jsdelta db import reads it later."),
]
OfflineOutput = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FOLDER", help="Where --offline works.")
]
OfflineSource = Annotated[
    str | None,
    typer.Option("--from", metavar="SOURCE", help="Export or store with the models for --offline."),
]


@dataclass(frozen=True, slots=True)
class PlaceOptions:
    """Where an attack works: in the workspace, or offline in a folder of its own."""

    offline: Offline = False
    output: OfflineOutput = None
    source: OfflineSource = None

    def find_folder(self) -> Path | None:
        """Return the folder of an offline attack; None in the workspace.

        Raises:
            UsageError: --offline without its folder, or the folder without --offline.
        """
        if not self.offline and (self.output is not None or self.source is not None):
            raise UsageError("--output and --from go with --offline; give it, or leave them out")
        if self.offline and self.output is None:
            raise UsageError("--offline works in a folder of its own; name it: --output FOLDER")
        return self.output


Place = Annotated[PlaceOptions, Group(PlaceOptions)]
