"""State dicts in training scripts' files: found under any key, and fitted to a network's own names."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

State = dict[str, Tensor]
Names = dict[str, str | None]  # of a network's tensors -> those of a file; None: the network keeps its own

# Under these names training scripts put the weights into a larger file; others are looked at after them.
WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model", "net", "network", "params", "weights",
    "state_dict_ema", "model_ema", "ema",
)  # fmt: skip
DEEPEST = 3  # files inside files
PARALLEL = ("module", "_orig_mod")  # DataParallel's and torch.compile's, wherever in a name they stand
AVERAGED = "n_averaged"  # a counter of the wrapper that averages weights
BATCHES = "num_batches_tracked"  # batch norm's counter, which old files lack
MOST_SHOWN, LONGEST = 3, 80  # names, and characters of one


@dataclass(frozen=True, slots=True)
class FoundState:
    """A state dict in a file.

    Attributes:
        place: the keys that lead to it; none where the file is the state dict.
    """

    state: State
    place: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Where it is, for people."""
        return "/".join(self.place) or "the file itself"


def find_states(content: object) -> list[FoundState]:
    """Return the state dicts of a file's content, those in their usual places first."""
    return list(_walk(content, ()))


def fit_state(state: Mapping[str, Tensor], network: nn.Module) -> State | None:
    """Return a state dict under the network's own names, or None if it is another network's.

    Names that are the network's own stay as they are. Else prefixes that all names share, and what
    DataParallel and torch.compile put between, count for neither side.
    """
    own, names = network.state_dict(), _match_names(state, network)
    if names is None:
        return None
    fitted = {name: own[name] if there is None else state[there] for name, there in names.items()}
    return fitted if all(fitted[name].shape == own[name].shape for name in fitted) else None


def describe_fit(state: Mapping[str, Tensor], network: nn.Module) -> str:
    """Say what was stripped from a state dict that fits; "" if nothing was."""
    names = _match_names(state, network) or {}
    renamed = next(((there, name) for name, there in names.items() if there not in (None, name)), None)
    used = set(names.values())
    parts = [f"names such as {renamed[0]} were read as {renamed[1]}"] if renamed else []
    left_out = [name for name in state if name not in used]
    return "; ".join(parts + ([f"left out: {show_names(left_out)}"] if left_out else []))


def _match_names(state: Mapping[str, Tensor], network: nn.Module) -> Names | None:
    wanted = {name: name for name in network.state_dict()}
    found = {name: name for name in state}
    if _without_counters(wanted) != _without_counters(found):
        wanted, found = _bare(wanted), _bare(name for name in state if name.rpartition(".")[2] != AVERAGED)
        if not wanted or _without_counters(wanted) != _without_counters(found):
            return None
    return {name: found.get(bare) for bare, name in wanted.items()}


def _without_counters(names: Iterable[str]) -> set[str]:
    return {name for name in names if name.rpartition(".")[2] != BATCHES}


def describe_misfit(state: Mapping[str, Tensor], network: nn.Module) -> str:
    """Say in what a state dict differs from a network: in names, or in the shape of a tensor."""
    own, names = network.state_dict(), _match_names(state, network)
    if names is None:
        missing, more = (
            [name for name in own if name not in state],
            [name for name in state if name not in own],
        )
        parts = [("it lacks", missing), ("it holds" if missing else "the network has no", more)]
        return ", and ".join(f"{what} {show_names(names)}" for what, names in parts if names)
    there = {name: state[found] for name, found in names.items() if found is not None}
    shapes = ((name, tuple(tensor.shape), tuple(own[name].shape)) for name, tensor in there.items())
    return next(
        (f"{name} is {one}, the network's is {other}" for name, one, other in shapes if one != other), ""
    )


def show_names(names: Iterable[object]) -> str:
    """Return a few names, none of them cut, and how many more there are."""
    listed = [str(name) for name in names]
    shown = [name for name in listed if len(name) <= LONGEST][:MOST_SHOWN]
    more = len(listed) - len(shown)
    if not shown:
        return f"{more} of more than {LONGEST} characters"
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _walk(content: object, place: tuple[str, ...]) -> Iterator[FoundState]:
    if not isinstance(content, Mapping):
        return
    state = {
        key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)
    }
    if state:
        yield FoundState(state, place)
    if len(place) < DEEPEST:
        usual = [name for name in WRAPPERS if name in content]
        for name in (*usual, *(name for name in content if name not in usual)):
            yield from _walk(content[name], (*place, str(name)))


def _bare(names: Iterable[str]) -> dict[str, str]:
    """Return names by what is left of them without wrappers; nothing if that makes two of them alike."""
    parts = {name: [part for part in name.split(".") if part not in PARALLEL] for name in names}
    while parts and all(len(each) > 1 for each in parts.values()):
        if len({each[0] for each in parts.values()}) > 1:
            break
        parts = {name: each[1:] for name, each in parts.items()}
    bare = {".".join(each): name for name, each in parts.items()}
    return bare if len(bare) == len(parts) else {}
