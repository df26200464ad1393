"""Torch, loaded when it is first used and not before.

Options, operators and methods are declared in modules that a dock widget or ``--help`` reads; importing
torch there would cost seconds. Modules that define ``torch.nn.Module`` classes import torch normally.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any


class LazyModule:
    """Stands for a module and imports it on the first attribute access.

    Unlike :class:`importlib.util.LazyLoader` it leaves ``sys.modules`` alone, so that libraries which ask
    ``"torch" in sys.modules`` do not trigger the import.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        value = getattr(importlib.import_module(self._name), attribute)
        setattr(self, attribute, value)
        return value


if TYPE_CHECKING:
    import torch as torch
else:
    torch = LazyModule("torch")

__all__ = ["torch"]
