"""Restoration networks: the contract, the list of architectures, and each of them by its name.

Importing this package costs nothing; torch comes with the first network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.registry import ARCHITECTURES, architecture, build, detect, register_architecture
from napari_fidelity.networks.untrained import DeepDecoder, Skip

if TYPE_CHECKING:
    from napari_fidelity.networks.base import RestorationNetwork

__all__ = [
    "ARCHITECTURES",
    "DeepDecoder",
    "ModelInfo",
    "RestorationNetwork",
    "Skip",
    "architecture",
    "build",
    "detect",
    "register_architecture",
]


def __getattr__(name: str) -> Any:
    if name == "RestorationNetwork":
        from napari_fidelity.networks.base import RestorationNetwork

        return RestorationNetwork
    if name in ARCHITECTURES:
        return architecture(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *ARCHITECTURES])
