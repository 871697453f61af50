"""Devices and dtypes: what ``auto`` is follows from the machine alone."""

from types import SimpleNamespace

import pytest
import torch

from jsdelta_db.errors import UsageError
from jsdelta_db.runtime import devices
from jsdelta_db.runtime.devices import resolve_device, resolve_dtype
from tests.cards import NO_KERNELS, pretend_cards

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def on(monkeypatch, *, flags=(), capability=(0, 0), has=True):
    """Pretend to be on a machine."""
    monkeypatch.setattr(devices, "has_bfloat16", lambda device_type: has)
    monkeypatch.setattr(devices, "cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)


@pytest.mark.parametrize(
    ("flags", "dtype"),
    [
        ((), torch.float32),
        (("avx2", "avx512f"), torch.float32),
        (("avx512f", "avx512_bf16"), torch.bfloat16),
        (("amx_tile", "amx_bf16"), torch.bfloat16),
    ],
)
def test_processors_with_units_for_bfloat16_use_it(monkeypatch, flags, dtype):
    """Their flags decide, and no stopwatch."""
    on(monkeypatch, flags=flags)
    assert dtype == resolve_dtype("auto", CPU)


@pytest.mark.parametrize(
    ("capability", "dtype"), [((7, 5), torch.float32), ((8, 0), torch.bfloat16), ((9, 0), torch.bfloat16)]
)
def test_gpus_since_ampere_use_bfloat16(monkeypatch, capability, dtype):
    """Older ones only imitate it."""
    on(monkeypatch, capability=capability)
    assert dtype == resolve_dtype("auto", CUDA)


@pytest.mark.parametrize("device", [CPU, CUDA])
def test_a_machine_without_bfloat16_refuses_it(monkeypatch, device):
    """Asked for, that is one line which says what is valid; ``auto`` and float32 are there everywhere."""
    on(monkeypatch, flags=["amx_bf16"], capability=(9, 0), has=False)
    with pytest.raises(UsageError, match=r"--dtype 'bfloat16' .* must be float32 or auto"):
        resolve_dtype("bfloat16", device)
    assert {torch.float32} == {resolve_dtype(requested, device) for requested in ("auto", "float32")}


def test_flags_are_read_from_linux(monkeypatch, tmp_path):
    """Those of the processor's list; a system without one has none."""
    listed = tmp_path / "cpuinfo"
    listed.write_text("processor\t: 0\nflags\t\t: fpu amx_bf16\nbugs\t\t: spectre\n")
    for path, expected in ((listed, True), (tmp_path / "missing", False)):
        monkeypatch.setattr(devices, "CPU_INFO", path)
        devices.cpu_flags.cache_clear()
        assert ("amx_bf16" in devices.cpu_flags(), "spectre" in devices.cpu_flags()) == (expected, False)
    devices.cpu_flags.cache_clear()


def test_a_processor_without_onednn_has_no_bfloat16(monkeypatch):
    """Apple's wheels lack the question itself: ``auto`` is float32, and nothing raises."""
    monkeypatch.setattr(torch.ops, "mkldnn", SimpleNamespace())
    assert resolve_dtype("auto", CPU) == torch.float32
    with pytest.raises(UsageError, match="'bfloat16' is not available on this cpu"):
        resolve_dtype("bfloat16", CPU)


def test_emulated_bfloat16_does_not_count(monkeypatch):
    """Turing cards compute it by way of float32, and say that they support it."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not devices.has_bfloat16("cuda")
    assert resolve_dtype("auto", CUDA) == torch.float32


@pytest.mark.parametrize(
    ("device", "trains", "dtype"),
    [
        (CUDA, "resnet8", torch.float32),
        (CUDA, "resnet18", torch.bfloat16),
        (CUDA, "", torch.bfloat16),
        (CPU, "resnet8", torch.bfloat16),
    ],
)
def test_small_networks_train_in_float32_on_a_card(device, trains, dtype, monkeypatch):
    """They wait for kernels, and autocast launches more; asked for, bfloat16 is taken."""
    on(monkeypatch, capability=(9, 0), flags=["amx_bf16"])
    assert resolve_dtype("auto", device, trains) == dtype
    assert resolve_dtype("bfloat16", device, trains) == torch.bfloat16


# ---- which device


FULL, NO_IMAGE = torch.OutOfMemoryError("CUDA out of memory"), RuntimeError(NO_KERNELS)


@pytest.mark.parametrize(
    ("requested", "worker", "index"),
    [
        ("auto", 0, 0), ("cuda", 0, 0), ("auto", 1, 1), ("cuda", 5, 2), ("cuda:1", 0, 1), ("cuda:1", 2, 1),
    ],
)  # fmt: skip
def test_workers_share_the_cards(requested, worker, index, monkeypatch):
    """Worker i takes card i, cycling, unless one was named; it becomes torch's current card."""
    current = pretend_cards(monkeypatch, "one", "two", "three")
    assert resolve_device(requested, worker) == torch.device("cuda", index)
    assert current == [index]


@pytest.mark.parametrize("fault", [FULL, NO_IMAGE])
def test_a_card_that_cannot_be_used_is_passed_over(fault, monkeypatch):
    """``auto`` and ``cuda`` take the next one."""
    heard = []
    pretend_cards(monkeypatch, "old", "new", faults={0: fault})
    for requested in ("auto", "cuda"):
        assert resolve_device(requested, report=heard.append) == torch.device("cuda", 1)
    assert heard == []


def test_auto_takes_the_processor_where_no_card_computes(monkeypatch):
    """And says why, of each card."""
    heard = []
    current = pretend_cards(monkeypatch, "Tesla K80", "NVIDIA H200", faults={0: NO_IMAGE, 1: FULL})
    assert resolve_device("auto", report=heard.append) == CPU
    assert heard == [
        f"no card can be used (cuda:0 Tesla K80: {NO_KERNELS}; cuda:1 NVIDIA H200: its memory is full): "
        "the processor computes"
    ]
    assert current == []


@pytest.mark.parametrize(
    ("requested", "message"),
    [
        (
            "cuda",
            rf"--device 'cuda' cannot be used \(cuda:0 Tesla K80: {NO_KERNELS}; cuda:1 .*: must be cpu or",
        ),
        (
            "cuda:1",
            r"--device 'cuda:1' cannot be used \(cuda:1 NVIDIA H200: its memory is full\): must be cpu or",
        ),
        ("cuda:2", r"--device 'cuda:2' is not there: must be auto, cpu, cuda:0 or cuda:1"),
    ],
)
def test_a_card_that_was_asked_for_is_not_replaced(requested, message, monkeypatch):
    """One line says why it cannot be had."""
    pretend_cards(monkeypatch, "Tesla K80", "NVIDIA H200", faults={0: NO_IMAGE, 1: FULL})
    with pytest.raises(UsageError, match=message):
        resolve_device(requested)


@pytest.mark.parametrize("requested", ["cuda", "cuda:0"])
def test_without_cards_there_is_the_processor(requested, monkeypatch):
    """``auto`` takes it in silence; a card is refused."""
    pretend_cards(monkeypatch)
    heard = []
    assert resolve_device("auto", report=heard.append) == resolve_device("cpu") == CPU
    assert heard == []
    with pytest.raises(
        UsageError, match=f"--device '{requested}' is not available here: must be cpu or auto"
    ):
        resolve_device(requested)


@pytest.mark.parametrize("requested", ["cpu", "cuda"])
def test_a_device_computes_float32_in_float32(requested, monkeypatch):
    """TF32 on a card, bfloat16 in oneDNN on a processor: off as soon as a device is chosen."""
    pretend_cards(monkeypatch, "one")
    torch.set_float32_matmul_precision("medium")
    resolve_device(requested)
    assert torch.get_float32_matmul_precision() == "highest"
