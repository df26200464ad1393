"""Choosing where to compute."""

from __future__ import annotations

import importlib
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.errors import DeviceError, OptionError
from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_CPU = "Compute on the cpu: --device cpu, or in napari Preferences ▸ Fidelity"

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
        raise DeviceError(f"There is no device '{name}'", found=f"{count} CUDA devices", do=_CPU)
    if device.type == "mps" and not _has_mps():
        raise DeviceError("This machine has no Apple GPU that torch can use", do=_CPU)
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
    """Let :func:`free_memory` report no more than a limit, so that a run that needs more is refused.

    Parameters
    ----------
    limit
        Bytes that one run may take on any one device; ``None`` for all there are.

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

    Not more than the limit that :func:`limit_memory` sets.
    """
    free = _cuda_memory(device) if device.type == "cuda" else _main_memory()
    if _limit is None:
        return free
    return _limit if free is None else min(free, _limit)


def _cuda_memory(device: torch.device) -> int:
    """Return what is free on a GPU; what torch keeps in reserve is free."""
    reserve = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + reserve


def _main_memory() -> int | None:
    """Return what is free of the machine's memory."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return _main_memory_by_psutil()


def _main_memory_by_psutil() -> int | None:
    # It comes with napari, and knows Windows and macOS.
    try:
        psutil: Any = importlib.import_module("psutil")
        return int(psutil.virtual_memory().available)
    except (ImportError, OSError):
        return None


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that a device or the machine ran out of memory."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "not enough memory" in text)


def threads_beside_a_window() -> int:
    """Return how many threads torch should compute on so that a window can be drawn meanwhile: a core less.

    Threads that wait for a core which draws slow each other down by far more than the core is worth.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(torch.get_num_threads(), cores - 1))


@contextmanager
def processor_threads(number: int | None) -> Iterator[None]:
    """Let torch compute on a number of processor threads; ``None`` changes nothing."""
    before = torch.get_num_threads() if number is not None else None
    try:
        if number is not None:
            torch.set_num_threads(number)
        yield
    finally:
        if before is not None:
            torch.set_num_threads(before)


def _has_mps() -> bool:
    return bool(torch.backends.mps.is_available())
