"""Prepared models: the frozen copy of a model that gradient steps run on.

Batch norm is folded, and the arithmetic inside is bfloat16 where the machine computes it faster; but the
first layer stays float32, since in bfloat16 the numbers in [0.5, 1) lie a whole pixel level apart. Success is
checked, and scores are computed, in float32 on the model as it is.

torch.fx, which folds, bakes in one branch of what a forward() asks in Python, and some hooks are lost: a copy
is compared with its model on a few images before it is used, and a plain copy replaces one that differs.
"""

import copy
import ctypes
from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from jsdelta_db.compute.attacks.capture import Capture
from jsdelta_db.compute.models.equivalence import find_difference, observe
from jsdelta_db.compute.models.inference import evaluating
from jsdelta_db.errors import ModelError, first_line
from jsdelta_db.records import FOLDED, PLAIN
from jsdelta_db.runtime.devices import dtype_name

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LAYERS = (nn.Conv2d, nn.Linear)  # that may see the image first


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model beside the frozen copy that gradient steps run on.

    Attributes:
        model: decides success, in float32; its mode and ``requires_grad`` are left alone.
        frozen: the same function but for rounding; float32 in, float32 logits out.
        device: where both are.
        prepared_as: ``folded`` or ``plain``, which is always in float32.
        dtype: of the arithmetic inside the copy.
        reason: why it is not the copy that was asked for; None if it is.
        capture: whether steps on the copy may be captured as a CUDA graph. Only of a folded one: it asks
            nothing in Python.
    """

    model: nn.Module
    frozen: nn.Module
    device: torch.device
    prepared_as: str = PLAIN
    dtype: torch.dtype = torch.float32
    reason: str | None = None
    capture: Capture = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "capture", Capture(is_allowed=self.prepared_as == FOLDED))

    @property
    def note(self) -> str | None:
        """What people should know of a copy that is not the one asked for."""
        if self.reason is None:
            return None
        dtype = dtype_name(self.dtype)
        return f"gradient steps run on its {self.prepared_as} copy in {dtype} ({self.reason})"


def prepare(
    model: nn.Module, images: Tensor, dtype: torch.dtype = torch.float32, prepared_as: str | None = None
) -> PreparedModel:
    """Make the copy that an attack's steps run on; a copy that computes something else is not taken.

    Args:
        model: on the images' device.
        images: to compare copies with the model on, see
            :func:`jsdelta_db.compute.models.equivalence.probe_images`.
        dtype: of the arithmetic inside a folded copy. Images, logits, loss and the first layer stay float32.
        prepared_as: ``folded`` or ``plain``, as it was decided before; None to compare and decide.
    """
    device = images.device
    if device.type == "cpu":
        retain_freed_memory()
    if prepared_as == PLAIN:
        return PreparedModel(model, _copy_plainly(model, images), device)

    def check(frozen: nn.Module, inner: torch.dtype) -> nn.Module:
        if prepared_as is None:
            difference = find_difference(observe(model, images.contiguous()), frozen, images, inner)
            if difference is not None:
                raise ModelError(f"its {_kind(inner)} copy computes something else: {difference}")
        return frozen

    try:
        folded = check(fold_batch_norm(_copy(model)).requires_grad_(False).to(device), torch.float32)
    except ModelError as error:
        plain = _copy_plainly(model, images)
        return PreparedModel(model, plain, device, reason=str(error))
    if dtype is torch.float32:
        return PreparedModel(model, folded, device, FOLDED)
    try:
        narrow = check(low_precision(copy.deepcopy(folded)), dtype)
    except ModelError as error:
        return PreparedModel(model, folded, device, FOLDED, reason=str(error))
    return PreparedModel(model, narrow, device, FOLDED, dtype)


class ModelItself(nn.Module):
    """A model in place of its copy: run in eval mode, and left as it is."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits ``(n, classes)``."""
        with evaluating(self.model):
            logits: Tensor = self.model(x).float()
            return logits


def _copy(model: nn.Module) -> nn.Module:
    """Return a copy in eval mode.

    Raises:
        ModelError: it cannot be copied, as with weights that a hook computes.
    """
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:  # the model may be the user's
        raise ModelError(f"it cannot be copied ({first_line(error)})") from error


def _copy_plainly(model: nn.Module, images: Tensor) -> nn.Module:
    """Return a copy that is neither traced nor folded; the model itself where there is none."""
    try:
        plain = _copy(model).requires_grad_(False)
    except ModelError:
        return ModelItself(model)
    differs = find_difference(observe(model, images.contiguous()), plain, images) is not None
    return ModelItself(model) if differs else plain


def _kind(dtype: torch.dtype) -> str:
    return "bfloat16" if dtype is torch.bfloat16 else "traced"


@lru_cache
def retain_freed_memory() -> None:
    """Make the allocator retain the memory that a step frees, for the next one.

    glibc returns large blocks to the system and gets them zeroed again; without that a step on a CPU
    takes 5 to 15 % less time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library: left as it is
        return
    mallopt(M_MMAP_THRESHOLD, 2**30)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Trace a model, and merge each batch norm into the convolution before it.

    The function is meant to be the same but for rounding, and a step costs 10 to 40 % less.

    Raises:
        ModelError: it cannot be traced or folded.
    """
    try:
        traced = fx.symbolic_trace(model)
        calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
        with_weights = [name for name in calls if any(True for _ in traced.get_submodule(name).parameters())]
        if len(with_weights) != len(set(with_weights)):
            return traced  # fuse() folds into a convolution even where it is used a second time
        return fuse(traced, no_trace=True)
    except Exception as error:  # a user's forward() may do anything
        raise ModelError(f"torch.fx cannot trace it: {first_line(error)}") from error


def low_precision(model: nn.Module) -> nn.Module:
    """Convert a traced model to bfloat16 behind its first layer, with float32 logits.

    Raises:
        ModelError: the model has no layer that could be the first.
    """
    assert isinstance(model, fx.GraphModule)
    graph = model.graph
    modules = {
        node: model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"
    }
    first = next((node for node, module in modules.items() if isinstance(module, LAYERS)), None)
    if first is None:
        raise ModelError("it has no convolution or linear layer")
    untouched = {first, *_inputs_of(first)}
    for node in graph.nodes:
        if node in untouched:
            continue
        if node in modules:
            modules[node].to(torch.bfloat16)
        elif node.op == "get_attr":  # a plain parameter, such as a transformer's class token
            _narrow_attribute(model, str(node.target))
    with graph.inserting_after(first):
        narrowed = graph.call_method("to", (first, torch.bfloat16))
    first.replace_all_uses_with(narrowed, delete_user_cb=lambda user: user is not narrowed)
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):
        widened = graph.call_method("float", (output.args[0],))
    output.args = (widened,)
    model.recompile()
    return model


def _inputs_of(node: fx.Node) -> set[fx.Node]:
    """Return all nodes that a node is computed from."""
    found: set[fx.Node] = set()
    waiting = list(node.all_input_nodes)
    while waiting:
        each = waiting.pop()
        if each not in found:
            found.add(each)
            waiting += each.all_input_nodes
    return found


def _narrow_attribute(model: nn.Module, target: str) -> None:
    path, _, name = target.rpartition(".")
    owner = model.get_submodule(path)
    value = getattr(owner, name)
    if isinstance(value, nn.Parameter):
        setattr(owner, name, nn.Parameter(value.detach().to(torch.bfloat16), requires_grad=False))
    elif isinstance(value, Tensor) and value.is_floating_point():
        setattr(owner, name, value.to(torch.bfloat16))
