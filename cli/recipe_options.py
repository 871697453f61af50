"""Options of ``jsdelta train`` that choose a recipe and change its settings."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from jsdelta_db.config.checks import MOST_EPOCHS, MOST_STEPS, MOST_WIDTH, NORMS
from jsdelta_db.config.eps import parse_eps
from jsdelta_db.errors import StoreNotReadyError, UnknownNameError, UsageError

from . import options
from .groups import Group

if TYPE_CHECKING:
    from jsdelta_db.config.locations import Workspace
    from jsdelta_db.config.recipes import Recipe
    from jsdelta_db.config.training import TrainConfig

Name = Annotated[
    str | None, typer.Option(metavar="NAME|FILE.toml", help="See jsdelta recipes list; or your own.")
]
Members = Annotated[int | None, options.whole("How many members.", 1, 1000)]
Dataset = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="A builtin one, or one that was added or constructed: dataset list."),
]
Arch = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Built-in name, module:callable or file.py:callable (repeatable: member i takes the i-th).",
    ),
]
Method = Annotated[str | None, typer.Option(metavar="standard|adversarial|sam", help="Training method.")]
Width = Annotated[
    list[int] | None,
    options.whole("Base width of a built-in architecture (repeatable, as --arch).", 1, MOST_WIDTH),
]
Epochs = Annotated[int | None, options.whole("Passes over the train split.", 1, MOST_EPOCHS)]
TrainEps = Annotated[
    str | None,
    typer.Option(metavar="EPS", help="Adversarial training's radius: 8 is 8/255; a plain number for l2."),
]
TrainNorm = Annotated[str | None, typer.Option(metavar="linf|l2", help="Adversarial training's norm.")]
TrainSteps = Annotated[int | None, options.whole("Steps of its inner attack; 1 is FGSM.", 1, MOST_STEPS)]
TrainStepSize = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Step size, in --train-eps's unit; default: the recipe's ratio to ε / steps.",
    ),
]
SamRho = Annotated[float | None, typer.Option(metavar="RHO", help="Radius of SAM's ascent step, above 0.")]
SamAdaptive = Annotated[
    bool | None,
    typer.Option("--sam-adaptive/--no-sam-adaptive", help="The radius in units of each weight (ASAM)."),
]


@dataclass(frozen=True, slots=True)
class RecipeOptions:
    """A recipe's name, and the settings that replace its own; None leaves a setting as it is."""

    recipe: Name = None
    members: Members = None
    dataset: Dataset = None
    arch: Arch = None
    method: Method = None
    width: Width = None
    epochs: Epochs = None
    train_eps: TrainEps = None
    train_norm: TrainNorm = None
    train_steps: TrainSteps = None
    train_step_size: TrainStepSize = None
    sam_rho: SamRho = None
    sam_adaptive: SamAdaptive = None

    def choose(self, workspace: "Workspace", *, device: str | None, dtype: str | None) -> "Recipe":
        """Return the recipe with these settings.

        Raises:
            UnknownNameError, UsageError: a name or value that is not valid.
        """
        base = self._find_base(workspace)
        inner = self._read_inner_attack(base.train)
        return base.mix(self.arch or (), self.width or ()).override(
            self.members, dataset=self.dataset, method=self.method, epochs=self.epochs, device=device,
            dtype=dtype, sam_rho=self.sam_rho, sam_adaptive=self.sam_adaptive, **inner,
        )  # fmt: skip

    def _find_base(self, workspace: "Workspace") -> "Recipe":
        """Return the recipe that is named, or the one for the method and the data set (or its root)."""
        from jsdelta_db.config.recipes import ANY, DEFAULT_RECIPES, get_recipe, recipe_for

        if self.recipe is not None:
            return get_recipe(self.recipe)
        if self.dataset is None or self.dataset in DEFAULT_RECIPES:
            return recipe_for(self.dataset, self.method)
        roots = _map_stored_to_roots(workspace)
        if self.dataset not in roots:
            raise UnknownNameError("dataset", self.dataset, [*DEFAULT_RECIPES, *roots])
        root = roots[self.dataset]
        return recipe_for(root if root in DEFAULT_RECIPES else ANY, self.method)

    def _read_inner_attack(self, train: "TrainConfig") -> dict[str, object]:
        """Return the settings of adversarial training's inner attack, sizes in the unit of its norm.

        Raises:
            UsageError: not a size, a norm without sizes in its unit, or a method without an inner attack.
        """
        self._refuse_without_attack(self.method or train.method)
        if self.train_norm is not None and self.train_norm not in NORMS:
            raise UnknownNameError("--train-norm", self.train_norm, NORMS)
        unit = self.train_norm or train.train_norm or "linf"
        given: dict[str, object] = {"train_norm": self.train_norm, "train_steps": self.train_steps}
        if self.train_eps is not None:
            given["train_eps"] = parse_eps(self.train_eps, unit, "--train-eps")
        if self.train_step_size is not None:
            given["train_step_size"] = parse_eps(self.train_step_size, unit, "--train-step-size")
        if train.method != "adversarial" or self.method not in (None, "adversarial"):
            return given
        if unit != train.train_norm and self.train_eps is None:
            raise UsageError(
                f"--train-norm {unit!r} has another unit than the recipe's {train.train_norm!r}; "
                "give --train-eps, too"
            )
        if self.train_step_size is None and (self.train_eps is not None or self.train_steps is not None):
            assert train.train_eps is not None
            assert train.train_steps is not None
            assert train.train_step_size is not None
            wider = float(str(given.get("train_eps", train.train_eps))) / train.train_eps
            given["train_step_size"] = (
                train.train_step_size * wider * train.train_steps / (self.train_steps or train.train_steps)
            )
        return given

    def _refuse_without_attack(self, method: str) -> None:
        """Refuse an inner attack's settings, as they were typed, for a method that has none."""
        given = {
            "--train-eps": self.train_eps, "--train-norm": self.train_norm,
            "--train-steps": self.train_steps, "--train-step-size": self.train_step_size,
        }  # fmt: skip
        for option, value in given.items():
            if value is not None and method != "adversarial":
                raise UsageError(
                    f"{option} {value} belongs to --method adversarial, and this is {method!r}; "
                    "add --method adversarial or leave it out"
                )


Choice = Annotated[RecipeOptions, Group(RecipeOptions)]


def list_known_datasets(dataset: str, workspace: "Workspace") -> list[str]:
    """Return the data sets that can be trained on; the store is only asked where it might know more."""
    from jsdelta_db.config.recipes import DEFAULT_RECIPES

    known = list(DEFAULT_RECIPES)
    return known if dataset in known else [*known, *_map_stored_to_roots(workspace)]


def _map_stored_to_roots(workspace: "Workspace") -> dict[str, str]:
    """Return the store's data sets that are not builtin, each with the one that it comes from."""
    from jsdelta_db.queries.datasets import query_datasets
    from jsdelta_db.store.constants import BUILTIN
    from jsdelta_db.store.reading import reading

    try:
        with reading(workspace.db_url) as connection:
            rows = query_datasets(connection)
    except StoreNotReadyError:
        return {}
    return {row["name"]: row["root"] for row in rows if row["kind"] != BUILTIN}
