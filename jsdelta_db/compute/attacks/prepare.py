"""Prepared models: the frozen copy of a model that gradient steps run on.

Batch norm is folded, the memory order is channels last, and the arithmetic inside is bfloat16 where the
machine computes it faster; but the first layer stays float32, since in bfloat16 the numbers in [0.5, 1) lie
a whole pixel level apart. Success is checked, and scores are computed, in float32 on the model as it is.
"""

import copy
import ctypes
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse

from jsdelta_db.errors import UsageError, first_line
from jsdelta_db.runtime.devices import resolve_dtype

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LAYERS = (nn.Conv2d, nn.Linear)  # that may see the image first


@dataclass(frozen=True, slots=True)
class PreparedModel:
    """A model beside the frozen copy that gradient steps run on.

    Attributes:
        model: decides success, in float32; its mode and ``requires_grad`` are left alone.
        frozen: the same function but for rounding; float32 in, float32 logits out.
        device: where both are.
    """

    model: nn.Module
    frozen: nn.Module
    device: torch.device


def prepare(model: nn.Module, device: torch.device, dtype: torch.dtype = torch.float32) -> PreparedModel:
    """Make the copy that an attack's steps run on.

    Args:
        dtype: of the arithmetic inside the network. Images, logits, loss and the first layer stay float32.

    Raises:
        UsageError: bfloat16 was asked for and the model cannot be traced.
    """
    if device.type == "cpu":
        retain_freed_memory()
    frozen = fold_batch_norm(copy.deepcopy(model).eval())
    if dtype is torch.bfloat16:
        frozen = low_precision(frozen)
    frozen.requires_grad_(False).to(device).to(memory_format=torch.channels_last)
    return PreparedModel(model.to(device), frozen, device)


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
    """Return the model with each batch norm merged into the convolution before it.

    The function is the same but for rounding, and a step costs 10 to 40 % less. A model that cannot be
    traced is returned as it is.
    """
    try:
        traced = fx.symbolic_trace(model)
        calls = [str(node.target) for node in traced.graph.nodes if node.op == "call_module"]
        with_weights = [name for name in calls if any(True for _ in traced.get_submodule(name).parameters())]
        if len(with_weights) != len(set(with_weights)):
            return model  # fuse() folds into a convolution even where it is used a second time
        return fuse(traced, no_trace=True)
    except Exception:  # noqa: BLE001 a user's forward() may do anything: then the plain copy is used
        return model


def choose_dtype(requested: str, model: nn.Module, device: torch.device, x: Tensor) -> torch.dtype:
    """Return the dtype for ``auto``, ``float32`` or ``bfloat16`` on this machine and model.

    Args:
        x: a few images, to try it on.

    Raises:
        UsageError: bfloat16 was asked for, and the machine lacks it or the model cannot be prepared.
    """
    dtype = resolve_dtype(requested, device)
    if dtype is torch.bfloat16:
        try:
            with torch.no_grad():
                prepare(model, device, dtype).frozen(x.to(device))
        except Exception as error:  # a user's network may fail in any way in bfloat16
            if requested == "auto":
                return torch.float32
            raise UsageError(
                f"--dtype 'bfloat16' does not fit this model ({first_line(error)}): must be float32"
            ) from error
    return dtype


def low_precision(model: nn.Module) -> nn.Module:
    """Convert a traced model to bfloat16 behind its first layer, with float32 logits.

    Raises:
        UsageError: the model is not a traced one, or has no layer that could be the first.
    """
    if not isinstance(model, fx.GraphModule):
        raise UsageError("torch.fx cannot trace its forward()")
    graph = model.graph
    modules = {
        node: model.get_submodule(str(node.target)) for node in graph.nodes if node.op == "call_module"
    }
    first = next((node for node, module in modules.items() if isinstance(module, LAYERS)), None)
    if first is None:
        raise UsageError("it has no convolution or linear layer")
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
