"""Choosing where to compute."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any

from napari_fidelity.core.errors import DeviceError, OptionError
from napari_fidelity.core.lazy import torch

log = logging.getLogger(__name__)

_limit: int | None = None  # bytes; set by limit_memory


def choose_device(name: str = "auto", *, announce: bool = True) -> torch.device:
    """Return the device to compute on and say so in the log.

    Parameters
    ----------
    name
        ``"auto"`` takes CUDA if there is one, then Apple's MPS, then the CPU; or ``"cpu"``, ``"cuda"``,
        ``"cuda:1"``, ``"mps"``.
    announce
        Whether to say in the log what was chosen.

    Raises
    ------
    DeviceError
        If the device asked for is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if _has_mps() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise DeviceError(
            "The device name is not known", found=repr(name), do="Use auto, cpu, cuda, cuda:0 or mps"
        ) from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    # torch keeps the number in 8 bits: cuda:256 would be cuda:0
    if device.type == "cuda" and (str(device) != name or (device.index or 0) >= count):
        raise DeviceError(f"There is no device '{name}'", found=f"{count} CUDA devices", do="Use --device cpu")
    if device.type == "mps" and not _has_mps():
        raise DeviceError("This machine has no Apple GPU that torch can use", do="Use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise DeviceError("Only cpu, cuda and mps are supported", found=repr(name))
    if announce:
        log.info("computing on %s", describe(device))
    return device


def describe(device: torch.device) -> str:
    """Name a device for people: the GPU's product name, or the CPU with its number of threads."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({device})"
    if device.type == "mps":
        return "the Apple GPU (mps)"
    return f"the CPU ({torch.get_num_threads()} threads)"


def limit_memory(limit: int | None) -> None:
    """Let :func:`free_memory` report no more than what this process may still take up to a limit.

    Parameters
    ----------
    limit
        Bytes the process may hold on any one device; ``None`` for all there are.

    Raises
    ------
    OptionError
        If the limit is not positive.
    """
    global _limit
    if limit is not None and limit <= 0:
        raise OptionError("A memory limit is a positive number of bytes", found=str(limit))
    _limit = limit


def free_memory(device: torch.device) -> int | None:
    """Return the memory of a device that can still be had, in bytes, or ``None`` where that cannot be told.

    Not more than what is left of the limit that :func:`limit_memory` sets.
    """
    free, held = _cuda_memory(device) if device.type == "cuda" else _main_memory()
    if _limit is None:
        return free
    left = max(0, _limit - held)
    return left if free is None else min(free, left)


def _cuda_memory(device: torch.device) -> tuple[int, int]:
    """Return what is free on a GPU and what this process holds there; what torch keeps in reserve is free."""
    held = torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + torch.cuda.memory_reserved(device) - held, held


def _main_memory() -> tuple[int | None, int]:
    """Return what is free of the machine's memory and what this process holds of it, 0 if that cannot be told."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        with open("/proc/self/status", encoding="ascii") as file:
            own = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0]), 1024 * int(own["VmRSS"].split()[0])
    except (OSError, KeyError, ValueError):
        return _main_memory_by_psutil()


def _main_memory_by_psutil() -> tuple[int | None, int]:
    # It comes with napari, and knows Windows and macOS.
    try:
        psutil: Any = importlib.import_module("psutil")
        return int(psutil.virtual_memory().available), int(psutil.Process().memory_info().rss)
    except (ImportError, OSError):
        return None, 0


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device or the machine ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)


def spare_a_core() -> None:
    """Let torch compute on all processor cores but one in this thread, so that a window can be drawn meanwhile.

    Threads that wait for a core which draws slow each other down by far more than the core is worth.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(max(1, min(torch.get_num_threads(), cores - 1)))


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
