from __future__ import annotations

import logging

import pytest
import torch

from napari_fidelity.core.device import choose_device, free_memory, is_out_of_memory
from napari_fidelity.core.errors import DeviceError


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("potato", "not known.*'potato'"),
        ("", "not known"),
        ("cuda:999", r"no device 'cuda:999'.*--device cpu"),
        ("meta", "Only cpu, cuda and mps"),
    ],
)
def test_refused(name: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        choose_device(name)


def test_absent_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert choose_device().type == "cpu"
    with pytest.raises(DeviceError, match="0 CUDA devices"):
        choose_device("cuda")
    with pytest.raises(DeviceError, match="no Apple GPU"):
        choose_device("mps")


def test_choice_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "napari_fidelity"):
        assert choose_device("cpu") == torch.device("cpu")
    assert "computing on the CPU" in caplog.text


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("MPS backend out of memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_free_memory() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is None or free > 0
