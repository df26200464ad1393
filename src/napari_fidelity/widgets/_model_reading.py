"""What can be known of a model before anything is run with it."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fidelity.core.errors import ArchitectureError, ModelFileError
from napari_fidelity.core.registry import OWN_MODELS
from napari_fidelity.widgets._model_memory import stamp_of
from napari_fidelity.widgets._model_opened import opened

if TYPE_CHECKING:
    from collections.abc import Collection

    from napari_fidelity.networks.info import ModelInfo
    from napari_fidelity.widgets._model_memory import Stamp

DENOISER = "DRUNet"
"""Architecture that is told the noise level."""


@cache
def bundled() -> tuple[ModelInfo, ...]:
    """Return the models that come with the plugin, smallest enlargement last, ×2 first.

    Of those that do not enlarge, one that needs to be told the noise level comes last.
    """
    from napari_fidelity.io import list_models

    def order(info: ModelInfo) -> tuple[bool, int, bool]:
        return info.scale == 1, info.scale, info.architecture == DENOISER

    own = OWN_MODELS.all()
    return tuple(sorted((info for info in list_models() if info.id not in own), key=order))


def offered(*, denoiser: bool) -> list[ModelInfo]:
    """Return the bundled models that can be used for a purpose, those made for it first; and registered ones."""
    own = [network.info for network in OWN_MODELS.all().values()]
    if not denoiser:
        return [*bundled(), *own]
    fitting = sorted((i for i in bundled() if i.scale == 1), key=lambda info: info.architecture != DENOISER)
    return [*fitting, *(info for info in own if info.scale == 1)]


def known_by_name(name: str) -> ModelInfo | None:
    """Return what is known of a bundled or registered model, for which no file needs to be opened."""
    own = OWN_MODELS.get(name)
    return own.info if own is not None else next((info for info in bundled() if info.id == name), None)


def inspect(name: str, trusted: Collection[str]) -> tuple[ModelInfo, Stamp]:
    """Open a model file and return what it holds, and what tells whether it is changed later.

    Parameters
    ----------
    name
        Its path.
    trusted
        SHA-256 of what may run code when it is opened.

    Raises
    ------
    ModelFileError
        If it is not there, or cannot be loaded.
    UntrustedModelError
        If it would run code and is not trusted.
    """
    from napari_fidelity.io import load_model

    path = Path(name).expanduser()
    try:
        stamp = stamp_of(path)
    except FileNotFoundError:
        raise ModelFileError(
            f"'{path.name}' is not there", found=f"no such file in '{path.parent}'", do="Choose another network"
        ) from None
    except OSError as error:
        raise ModelFileError(f"'{path}' cannot be read", found=error.strerror or str(error)) from None
    network = opened(partial(load_model, name), trusted)
    return network.info, stamp


def enlarges(info: ModelInfo) -> ArchitectureError:
    """Return the error for a network that is no denoiser."""
    return ArchitectureError(
        "A denoiser keeps the size of the image",
        found=f"a network that enlarges ×{info.scale}",
        do="Choose another",
    )
