"""Published architectures that spandrel knows by the names of their weights (extra: models).

Only its detection and its modules are used: files are opened by our own loads, padding is ours, and its calls,
which run without gradients and clip, are left aside.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError, FidelityError, MissingDependencyError
from napari_fidelity.networks.base import check_finite
from napari_fidelity.networks.drunet import noise_level
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.probe import examined

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_NO_RESTORATION = {"GFPGAN": "FaceSR", "LaMa": "Inpainting", "RestoreFormer": "FaceSR"}
_WITH_NOISE_MAP = {"DRUNet", "DnCNN"}  # whose calls add a map of the noise level, at one fixed level


def recognised(weights: Mapping[str, Tensor]) -> ForeignNetwork | None:
    """Return the network that weights belong to, with what a run forth and back tells of it.

    Parameters
    ----------
    weights
        Tensors by name.

    Returns
    -------
    ForeignNetwork or None
        ``None`` if spandrel does not know them.

    Raises
    ------
    MissingDependencyError
        If spandrel is missing or broken.
    ArchitectureError
        If a network of this architecture cannot be used, or the weights do not fit it.
    ModelFileError
        If a weight is NaN or infinite.
    """
    support = _detected(dict(weights))
    if support is None:
        return None
    name = str(support.architecture.name)
    _check_purpose(_NO_RESTORATION.get(str(support.architecture.id), ""), name)  # before anything large is built
    check_finite(weights)
    try:
        with warnings.catch_warnings():  # of torch, about how these architectures are written
            warnings.simplefilter("ignore")
            descriptor = support.architecture.load(dict(weights))
            _check_purpose(descriptor.purpose, name)
            _check_channels(descriptor, name)
            return examined(_wrapped(descriptor, name))
    except FidelityError:
        raise
    except Exception as error:  # sizes that do not fit, missing names: whatever its constructors raise
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"The weights look like {name}, but do not fit",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
            do="Check that the file was saved whole",
        ) from error


def _detected(weights: dict[str, Tensor]) -> Any:
    """Return the first entry of the list of architectures whose names of weights these are, if any."""
    try:
        registry: Any = importlib.import_module("spandrel").MAIN_REGISTRY
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises RuntimeError
        raise MissingDependencyError(
            f"Networks of other architectures need the library spandrel ({error})",
            found=f"torch {torch.__version__}",
            do="Many more are known with the extra: pip install 'napari-fidelity[models]'",
        ) from error
    return next((one for one in registry.architectures("detection") if one.detect(weights)), None)


def _check_purpose(purpose: str, name: str) -> None:
    """Refuse networks that need more than an image, or make something else of it."""
    if purpose == "Inpainting":
        raise ArchitectureError(
            f"{name} fills holes, and takes a mask beside the image",
            do="Use a restoration network, and say which pixels were observed by the image formation model 'mask'",
        )
    if purpose == "FaceSR":
        raise ArchitectureError(
            f"{name} draws aligned faces from a prior of faces, whatever image it is given",
            do="Use a network that restores images",
        )


def _check_channels(descriptor: Any, name: str) -> None:
    if descriptor.input_channels != descriptor.output_channels:
        raise ArchitectureError(
            f"The {name} network makes images of other channels than it takes",
            found=f"{descriptor.input_channels} in, {descriptor.output_channels} out",
            do="Use a network that keeps the channels",
        )


def _wrapped(descriptor: Any, name: str) -> ForeignNetwork:
    sizes, module = descriptor.size_requirements, descriptor.model.eval()
    known = descriptor.architecture.id in _WITH_NOISE_MAP
    takes_map = known and _first_channels(module) == descriptor.input_channels + 1
    called: nn.Module = _AtLevel(module) if takes_map else _Called(module, descriptor._call_fn)
    info = ModelInfo(
        id="",
        architecture=name,
        scale=int(descriptor.scale),
        n_channels=int(descriptor.input_channels),
        n_parameters=sum(p.numel() for p in module.parameters()),
        format="spandrel",
    )
    return ForeignNetwork(
        called,
        scale=info.scale,
        n_channels=info.n_channels,
        info=info,
        size_multiple=int(sizes.multiple_of),
        smallest=max(1, int(sizes.minimum)),
        square=bool(sizes.square),
    ).eval()


def _first_channels(module: nn.Module) -> int:
    first = next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))
    return first.in_channels


class _Called(nn.Module):
    """A module with what spandrel does around its call: ranges, and which of several outputs is the image."""

    def __init__(self, network: nn.Module, call: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.call = network, call

    def forward(self, y: Tensor) -> Tensor:
        return self.call(self.network, y)


class _AtLevel(nn.Module):
    """A denoiser that takes a map of the noise level as its last channel; estimated where it is not told."""

    takes_noise_level = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, y: Tensor, sigma: float | Tensor | None = None) -> Tensor:
        level = noise_level(y) if sigma is None else torch.as_tensor(sigma, dtype=y.dtype, device=y.device)
        output: Tensor = self.network(torch.cat([y, level.expand(len(y), 1, *y.shape[2:])], dim=1))
        return output
