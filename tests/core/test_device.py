from __future__ import annotations

import logging
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import torch

from napari_fidelity.core import device
from napari_fidelity.core.device import choose_device, free_memory, is_out_of_memory, limit_memory
from napari_fidelity.core.errors import DeviceError, OptionError

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@pytest.fixture
def cpu() -> Iterator[torch.device]:
    yield torch.device("cpu")
    limit_memory(None)


def test_limit(cpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_main_memory", lambda: 1000)
    found = []
    for limit in (None, 5000, 900, 300, 100):
        limit_memory(limit)
        found.append(free_memory(cpu))
    assert found == [1000, 1000, 900, 300, 100]
    monkeypatch.setattr(device, "_main_memory", lambda: None)
    assert free_memory(cpu) == 100
    limit_memory(None)
    assert free_memory(cpu) is None
    with pytest.raises(OptionError, match="positive number of bytes"):
        limit_memory(0)


def test_limit_of_a_gpu(cpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 500)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9999))
    gpu = torch.device("cuda", 0)
    assert free_memory(gpu) == 1200
    limit_memory(700)
    assert free_memory(gpu) == 700


def test_memory_without_proc(cpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    psutil = pytest.importorskip("psutil", reason="psutil comes with napari")

    def missing(*args: object, **settings: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", missing)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    assert device._main_memory() == 1000
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert device._main_memory() is None
