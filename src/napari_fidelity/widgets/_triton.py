"""Keeps triton, torch's kernel compiler, out of processes that it would crash."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

_MAPS = Path("/proc/self/maps")


def keep_triton_out() -> None:
    """Let ``import triton`` fail in a process whose OpenGL driver has brought its own LLVM; call it before a run.

    torch imports triton on Linux when the first optimiser is made. Mesa draws with LLVM, triton has an LLVM of
    another version built in, and loading the second ends the process with a segmentation fault, and napari with
    it. Nothing here compiles kernels, so torch is told that there is no triton. Once loaded before OpenGL, triton
    does no harm and stays.
    """
    if sys.platform == "linux" and "triton" not in sys.modules and _holds_llvm():
        cast("dict[str, Any]", sys.modules)["triton"] = None


def _holds_llvm() -> bool:
    try:
        return "libLLVM" in _MAPS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
