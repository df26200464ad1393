"""A trained restoration network as a denoiser."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError, DeviceError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.precision import Precision, autocast
from napari_fidelity.denoisers.base import Denoiser

if TYPE_CHECKING:
    from torch import Tensor

    from napari_fidelity.denoisers.base import Network

AT_ONCE = 2**20
"""Pixels of a batch that go through the network together."""


class NetworkDenoiser(Denoiser):
    """A restoration network that keeps the image's size, given together with the image.

    One that takes the noise level (``takes_noise_level``: DRUNet) is told it; a blind one is called as it is. An
    image of other channels than the network's goes through it channel by channel, a volume slice by slice.
    """

    kind: Literal["network"] = "network"
    needs_network: ClassVar[bool] = True
    title: ClassVar[str] = "denoising network"
    precision: Precision = Field(
        "auto", description="Arithmetic of the network; auto takes bfloat16 where the processor is faster in it."
    )

    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        assert network is not None  # Denoiser.denoise has seen to it
        _check_network(network, x)
        images = x if x.ndim == 4 else x.movedim(2, 1).flatten(0, 1)
        adapted, fold = prepared(network, x.shape[1])
        planes = images.reshape(-1, 1, *images.shape[2:]) if fold else images
        count = max(1, AT_ONCE // planes[0, 0].numel())
        with autocast(self.precision, x.device):
            output = torch.cat([_run(adapted, part, sigma) for part in torch.split(planes, count)])
        if x.ndim == 4:
            return output.reshape(x.shape)
        return output.reshape(x.movedim(2, 1).shape).movedim(1, 2)


def _check_network(network: Network, x: Tensor) -> None:
    from napari_fidelity.networks.adapters import takes_operator

    scale = getattr(network, "scale", 1)
    if scale != 1:
        raise ArchitectureError(
            "A denoiser keeps the size of the image",
            found=f"a network of scale ×{scale}",
            do="Choose a denoising network, such as drunet-s or edsr-s-x1",
        )
    if getattr(network, "frames", 1) > 1 or takes_operator(network):
        more = "the image formation model" if takes_operator(network) else "the frames around an image"
        raise ArchitectureError(
            f"A denoiser looks at an image alone, and this network at {more}, too",
            do="Choose a denoising network, such as drunet-s or edsr-s-x1",
        )
    if isinstance(network, torch.nn.Module):
        device = next((p.device for p in network.parameters()), x.device)
        if device != x.device:
            raise DeviceError("Network and image are on different devices", found=f"{device} and {x.device}")


def prepared(network: Network, channels: int) -> tuple[Network, bool]:
    """Return the network as it is run on so many channels, and whether they go through it as a batch of planes."""
    from napari_fidelity.networks.adapters import for_gray, for_unit_range

    fold = getattr(network, "n_channels", None) not in (None, channels)
    if not isinstance(network, torch.nn.Module):
        return network, fold
    network = for_unit_range(network)
    return (for_gray(network) if fold else network), fold


def _run(network: Network, x: Tensor, sigma: float) -> Tensor:
    from napari_fidelity.networks.adapters import call_at_level

    try:
        output = call_at_level(network, x.contiguous(), sigma)
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"{type(network).__name__} cannot be applied to an image of shape {tuple(x.shape)}", found=str(error)
        ) from error
    if not isinstance(output, torch.Tensor) or output.shape != x.shape:
        found = f"shape {tuple(output.shape)}" if isinstance(output, torch.Tensor) else type(output).__name__
        raise ArchitectureError(f"A denoiser turns an image {tuple(x.shape)} into one of that shape", found=found)
    return output.float()
