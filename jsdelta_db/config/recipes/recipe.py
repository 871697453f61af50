"""A recipe: a training configuration and the usual size of an ensemble of it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jsdelta_db.config.training import METHOD_FIELDS, TrainConfig

# Settings in a name by a word of their own, or by their value alone.
NAMED = {
    **dict.fromkeys(("method", "arch", "dtype", "device", "train_norm"), ""),
    "train_eps": "eps", "train_steps": "steps", "train_step_size": "stepsize", "sam_rho": "rho",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Recipe:
    """A named training configuration and the usual size of an ensemble of it.

    Attributes:
        archs, widths: of a mixed ensemble: member i takes the i-th of each, cycling; else empty.
        written: the configuration before any override; None where the recipe was not written down.
        tried: whether its authors ever trained by it on its data.
    """

    name: str
    description: str
    members: int
    train: TrainConfig
    archs: tuple[str, ...] = ()
    widths: tuple[int, ...] = ()
    written: TrainConfig | None = None
    tried: bool = True

    def override(self, members: int | None = None, **changes: object) -> "Recipe":
        """Return the recipe with the given fields replaced; None leaves a field as it is.

        Another method drops the settings that belong to the recipe's own.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        if given.get("method", self.train.method) != self.train.method:
            given = {**dict.fromkeys(METHOD_FIELDS.get(self.train.method, ())), **given}
        return replace(
            self,
            members=self.members if members is None else members,
            train=replace(self.train, **given),  # type: ignore[arg-type] # checked when made
        )

    def mix(self, archs: Sequence[str] = (), widths: Sequence[int] = ()) -> "Recipe":
        """Return the recipe of an ensemble whose members differ; one value alone is for all of them."""
        whole = self.override(
            arch=archs[0] if len(archs) == 1 else None, width=widths[0] if len(widths) == 1 else None
        )
        longest = max(len(archs), len(widths))
        return replace(
            whole,
            members=longest if longest > 1 else self.members,
            archs=tuple(archs) if len(archs) > 1 else (),
            widths=tuple(widths) if len(widths) > 1 else (),
        )

    def of_member(self, position: int) -> TrainConfig:
        """Return the configuration of the member at a position, from 0."""
        arch = self.archs[position % len(self.archs)] if self.archs else self.train.arch
        width = self.widths[position % len(self.widths)] if self.widths else self.train.width
        return replace(self.train, arch=arch, width=width)

    @property
    def is_mixed(self) -> bool:
        """True if members differ in more than their seeds."""
        return len({self.of_member(position) for position in range(self.members)}) > 1

    @property
    def label(self) -> str:
        """The recipe's name and what differs from it as written, such as ``digits-sam-rho0.1``."""
        ours, written = self.train.as_recipe(), (self.written or self.train).as_recipe()
        changed = {key: value for key, value in ours.items() if value != written[key] and value is not None}
        dataset = changed.pop("dataset", None)
        if self.is_mixed:  # the members' own are no part of the ensemble's name
            changed = {key: value for key, value in changed.items() if key not in ("arch", "width")}
        parts = [self.name, *(_describe(key, value, self.train) for key, value in changed.items())]
        parts += ["mixed"] * self.is_mixed + [f"on-{dataset}"] * (dataset is not None)
        return "-".join(filter(None, parts))


def _describe(key: str, value: object, train: TrainConfig) -> str:
    """Return a setting as part of a name; "" for the usual one of another method."""
    if key == "sam_adaptive":
        return "adaptive" if value else ""
    if key in ("train_eps", "train_step_size") and train.train_norm == "linf":
        value = float(str(value)) * 255
    shown = f"{value:g}" if isinstance(value, float) else str(value).replace(":", ".")
    return f"{NAMED.get(key, key)}{shown}"
