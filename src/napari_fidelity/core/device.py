"""Choosing where to compute."""

from __future__ import annotations

import logging
import os

from napari_fidelity.core.errors import DeviceError
from napari_fidelity.core.lazy import torch

log = logging.getLogger(__name__)


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


def free_memory(device: torch.device) -> int | None:
    """Return the memory of a device that can still be had, in bytes, or ``None`` where that cannot be told."""
    if device.type == "cuda":
        # What torch holds in reserve counts as free.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            lines = dict(line.split(":", 1) for line in file)
        return 1024 * int(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        return None


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
