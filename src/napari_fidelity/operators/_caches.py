"""Letting go of the matrices and kernels that operators keep between calls."""

from __future__ import annotations

import sys


def clear_caches() -> None:
    """Release the matrices and kernel spectra kept for the next call, on the processor and on graphics cards.

    They are made again when they are needed, in milliseconds; a process that lives long calls this between runs.
    """
    for name in ("_matrix", "_convolve", "_rays"):
        module = sys.modules.get(f"napari_fidelity.operators.{name}")  # a run may not have needed it
        for function in list(vars(module).values()) if module else []:
            if hasattr(function, "cache_clear"):
                function.cache_clear()
