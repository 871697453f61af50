"""Devices and dtypes: what ``auto`` is follows from the machine alone."""

import pytest
import torch

from jsdelta_db.errors import UsageError
from jsdelta_db.runtime import devices
from jsdelta_db.runtime.devices import resolve_dtype

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
