"""Requests: what is compared with what, by which number, and in what the two sides may differ."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from jsdelta_db.config.checks import check
from jsdelta_db.config.evaluation import DEFAULT_BETA, check_beta
from jsdelta_db.config.measures import Measuring
from jsdelta_db.errors import UnknownNameError, UsageError
from jsdelta_db.queries.facts.conditions import Condition, parse_condition
from jsdelta_db.queries.facts.keys import get_key

FRACTION, RATE, NON_BUG_RATE, EQUAL_SUCCESS = QUANTITIES = (
    "fraction", "rate", "non-bug-rate", "equal-success"
)  # fmt: skip
# Facts that the two sides must share, or the difference is theirs as well.
EVALUATORS, N_EVALUATORS = "evaluators", "n_evaluators"
MUST_AGREE = (
    "dataset", "split", "images", "targets", "steps", "attack_seed", "objective", "temperature", "baseline",
    EVALUATORS, N_EVALUATORS,
)  # fmt: skip
# What each row is of, unless it is what is compared.
ALWAYS_BY = ("norm", "eps")


@dataclass(frozen=True, slots=True)
class Request:
    """Two sides, A and B, and what is asked of them.

    Either the first key of ``by`` is compared, each of its values as A with ``baseline`` as B, or ``a`` and
    ``b`` say which attacks are which.

    Attributes:
        by: keys; those that are not compared get rows of their own.
        a, b: conditions, all of which must hold.
        betas: thresholds on the measure.
        quantity: one of ``QUANTITIES``, to which interval, p and verdict belong.
        equivalence: half the width of the range in which a difference is none.
        allow: some of ``MUST_AGREE``.
        first_falls: count only attempts that did not succeed at a smaller ε of those selected.

    Raises:
        UnknownNameError: an unknown key, quantity or fact.
        UsageError: sides that are not said, or said twice; a β or margin out of range.
    """

    by: tuple[str, ...] = ()
    baseline: str | None = None
    a: tuple[Condition | str, ...] = ()
    b: tuple[Condition | str, ...] = ()
    betas: tuple[float, ...] = (DEFAULT_BETA,)
    quantity: str = FRACTION
    measuring: Measuring = Measuring()  # noqa: RUF009 frozen
    equivalence: float | None = None
    allow: Collection[str] = ()
    first_falls: bool = False

    def __post_init__(self) -> None:
        for beta in self.betas:
            check_beta(beta)
        if not self.betas:
            raise UsageError("no β is given; give at least one, such as 0.1")
        for what, name, known in (
            ("--quantity", self.quantity, QUANTITIES),
            *(("--allow", name.replace("-", "_"), MUST_AGREE) for name in self.allow),
        ):
            if name not in known:
                raise UnknownNameError(what, name, known)
        if self.equivalence is not None:
            check_margin(self.equivalence)
        object.__setattr__(self, "allow", frozenset(name.replace("-", "_") for name in self.allow))
        keys = tuple(get_key("--by", name) for name in self.by)
        if len(set(keys)) < len(keys):
            raise UsageError(f"--by {','.join(self.by)} names a key twice; give each once")
        object.__setattr__(self, "by", keys)
        for name in ("a", "b"):
            object.__setattr__(self, name, _read(f"--{name}", getattr(self, name)))
        self._check_sides()

    @property
    def is_by_key(self) -> bool:
        """Whether the values of a key are compared."""
        return self.baseline is not None

    @property
    def compared(self) -> tuple[str, ...]:
        """The keys in which the sides differ."""
        if self.is_by_key:
            return self.by[:1]
        conditions = (*self.a, *self.b)
        return tuple(dict.fromkeys(each.key for each in conditions if isinstance(each, Condition)))

    def _check_sides(self) -> None:
        if self.is_by_key and (self.a or self.b):
            raise UsageError("--baseline is given beside --a or --b; say the sides in one way")
        if self.is_by_key and not self.by:
            raise UsageError("--baseline needs --by KEY, the key that is compared, such as --by method")
        if bool(self.a) != bool(self.b):
            given, missing = ("a", "b") if self.a else ("b", "a")
            raise UsageError(
                f"--{given} is given without --{missing}; give both, such as --{missing} method=sam"
            )
        if self.by and not self.is_by_key and not self.a:
            raise UsageError(
                f"--by {self.by[0]} is given without --baseline; add the value that is side B, such as "
                "--baseline standard of --by method; "
                f"jsdelta query bugs --by {self.by[0]} shows what there is"
            )
        if not self.is_by_key and not self.a:
            raise UsageError(
                "no sides are given; say --by KEY --baseline VALUE, such as --by method --baseline standard, "
                "or --a and --b, such as --a method=sam --b method=standard"
            )
        if self.a and self.a == self.b:
            raise UsageError(f"--a and --b are both {show(self.a)}: a comparison of a thing with itself")


def check_margin(margin: float) -> float:
    """Return a margin of equivalence if it is one.

    Raises:
        UsageError: not in (0, 1).
    """
    check("--equivalence", margin, 0 < margin < 1, "a number between 0 and 1, such as 0.05")
    return margin


def show(conditions: Sequence[Condition | str]) -> str:
    """Return conditions as they are typed."""
    return " ".join(each if isinstance(each, str) else each.text for each in conditions)


def _read(option: str, given: str | Sequence[Condition | str]) -> tuple[Condition, ...]:
    """Return conditions with the keys that theirs mean."""
    read = []
    for each in (given,) if isinstance(given, str) else given:
        condition = parse_condition(each, option) if isinstance(each, str) else each
        key = get_key(option, condition.key)
        read.append(Condition(key, condition.operator, condition.values, option))
    return tuple(read)
