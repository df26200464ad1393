"""LPIPS, where the optional library and the weights of its backbone are on this machine; nothing is downloaded."""

from __future__ import annotations

import functools
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import (
    MissingDependencyError,
    ModelFileError,
    NonFiniteError,
    OptionError,
    ShapeError,
)
from napari_fidelity.core.lazy import torch

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_BACKBONE = "alexnet-owt-7be5be79.pth"  # as torchvision names it in torch's cache
_VARIABLE = "NAPARI_FIDELITY_LPIPS_BACKBONE"
_SMALLEST = 32  # pixels: below, AlexNet's last layers have nothing left


def lpips_available(backbone: str | os.PathLike[str] | None = None) -> tuple[bool, str]:
    """Tell whether LPIPS can be computed, and if not, the reason and what to do.

    Parameters
    ----------
    backbone
        File with torchvision's AlexNet weights; by default the one the environment variable
        ``NAPARI_FIDELITY_LPIPS_BACKBONE`` names, or the one in torch's cache.
    """
    try:
        _library()
        _weights_file(backbone)
    except (MissingDependencyError, ModelFileError) as error:
        return False, str(error)
    return True, ""


def lpips(
    estimate: ArrayLike,
    reference: ArrayLike,
    *,
    data_range: float = 1.0,
    backbone: str | os.PathLike[str] | None = None,
) -> float:
    """Learned perceptual image patch similarity (Zhang 2018): version 0.1 on AlexNet; 0 for equal images.

    Parameters
    ----------
    estimate, reference
        ``(H, W)``, shown to the network as gray, or ``(H, W, 3)``; at least 32 × 32 pixels; black is 0.
    data_range
        The value of white.
    backbone
        As for :func:`lpips_available`.

    Raises
    ------
    MissingDependencyError
        If the library is missing or broken.
    ModelFileError
        If the backbone's weights are not on this machine or not AlexNet's.
    ShapeError
        If the shapes differ, are too small, or are neither gray nor RGB.

    References
    ----------
    Zhang et al. 2018, doi:10.1109/CVPR.2018.00068.
    """
    if not (np.isfinite(data_range) and data_range > 0):
        raise OptionError("data_range must be a positive number", found=str(data_range))
    a, b = (_as_tensor(image, data_range) for image in (estimate, reference))
    if a.shape != b.shape:
        raise ShapeError(
            "The image and its reference differ in shape", found=f"{np.shape(estimate)} and {np.shape(reference)}"
        )
    _library()
    with torch.no_grad():
        return float(_network(str(_weights_file(backbone)))(a, b))


def _as_tensor(image: ArrayLike, data_range: float) -> torch.Tensor:
    array = np.asarray(image, np.float32)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[-1] == 1):
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=-1)
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ShapeError("LPIPS needs a gray or RGB image", found=f"shape {array.shape}")
    if min(array.shape[:2]) < _SMALLEST:
        raise ShapeError(f"LPIPS needs at least {_SMALLEST} × {_SMALLEST} pixels", found=f"shape {array.shape}")
    if not np.isfinite(array).all():
        raise NonFiniteError("A metric needs finite numbers")
    scaled = np.moveaxis(2 * array / np.float32(data_range) - 1, -1, 0)[None]
    return torch.from_numpy(np.ascontiguousarray(scaled))


def _library() -> Any:
    # A torchvision that does not fit torch fails with a RuntimeError at import.
    try:
        import lpips
    except (ImportError, RuntimeError) as error:
        raise MissingDependencyError(
            f"LPIPS needs the libraries lpips and torchvision ({error})",
            found=f"torch {torch.__version__}",
            do="Install the extra: pip install 'napari-fidelity[metrics]'",
        ) from error
    return lpips


def _weights_file(backbone: str | os.PathLike[str] | None) -> Path:
    given = backbone or os.environ.get(_VARIABLE)
    file = Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints" / _BACKBONE
    if not file.is_file():
        raise ModelFileError(
            "The AlexNet weights LPIPS builds on are not on this machine, and nothing is downloaded unasked",
            found=f"no file '{file}'",
            do=f"Put torchvision's {_BACKBONE} there, or name it in {_VARIABLE}",
        )
    return file


@functools.lru_cache(maxsize=1)
def _network(file: str) -> torch.nn.Module:
    # The library would fetch the backbone from the network: build it empty and fill it from the file.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network: Any = _library().LPIPS(net="alex", pnet_rand=True, verbose=False)
    try:
        stored = torch.load(file, map_location="cpu", weights_only=True)
        state = network.net.state_dict()
        # slice3.6.weight holds what torchvision calls features.6.weight
        network.net.load_state_dict({name: stored[f"features.{name.split('.', 1)[1]}"] for name in state})
    except Exception as error:  # whatever a file that is no such checkpoint makes torch raise
        raise ModelFileError(f"'{file}' does not hold torchvision's AlexNet weights", found=str(error)) from error
    module: torch.nn.Module = network.eval().requires_grad_(False)
    return module
