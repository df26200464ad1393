"""In which arithmetic a network runs."""

from __future__ import annotations

from typing import Literal

from napari_fidelity.core.lazy import torch

Precision = Literal["auto", "float32", "bfloat16"]
"""``auto`` takes bfloat16 where the device is faster in it."""


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return the context in which a network runs."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=uses_bfloat16(precision, device))


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Tell whether a network runs in bfloat16: where asked for, or where it is faster."""
    return precision == "bfloat16" or (precision == "auto" and _is_fast_in_bfloat16(device))


def _is_fast_in_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # oneDNN emulates bfloat16 on processors without instructions for it, at a loss.
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
