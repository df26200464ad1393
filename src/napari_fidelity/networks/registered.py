"""Networks of the user's own that are models in this process. Loads no torch until there is one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from napari_fidelity.core.device import choose_device, is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.registry import OWN_MODELS
from napari_fidelity.networks.copies import private_copy

if TYPE_CHECKING:
    import os

    from napari_fidelity.networks.foreign import LoadedNetwork
    from napari_fidelity.networks.info import ModelInfo

_PROBE = (13, 11)  # pixels of the image that a network is tried on: odd and not square, as images are


def registered_infos() -> list[ModelInfo]:
    """Return what is known of every registered model, the first registered first."""
    return [network.info for network in OWN_MODELS.all().values()]


def registered_network(
    name: str | os.PathLike[str], scale: int | None = None, device: str | torch.device = "cpu"
) -> LoadedNetwork | None:
    """Return a copy of a registered network, as ``load_model`` does; ``None`` if there is none of that name.

    Raises
    ------
    ArchitectureError
        If it cannot be adapted to the scale.
    """
    known = OWN_MODELS.get(name) if isinstance(name, str) else None
    if known is None:
        return None
    network: Any = private_copy(known, torch.device("cpu")) if scale is None else known.to_scale(scale)
    placed: LoadedNetwork = network.to(choose_device(str(device), announce=False)).eval()
    return placed


def as_model(
    module: torch.nn.Module, info: ModelInfo, *, size_multiple: int = 1, smallest: int = 1
) -> LoadedNetwork:
    """Return a private copy of a module as a network of the scale and channels that its ``info`` states.

    Parameters
    ----------
    module
        Any module from image to image; a :class:`RestorationNetwork` stays one.
    info
        What is known of it, but for the number of its parameters and its hash.
    size_multiple, smallest
        As for :class:`~napari_fidelity.networks.foreign.ForeignNetwork`.

    Raises
    ------
    ArchitectureError
        If it cannot be copied, or a small image that runs through it does not come out as expected.
    """
    from napari_fidelity.networks.base import RestorationNetwork
    from napari_fidelity.networks.foreign import ForeignNetwork
    from napari_fidelity.networks.probe import examined

    copied: Any = private_copy(module, torch.device("cpu")).float()
    info, network = replace(info, format="module", frames=int(getattr(copied, "frames", 1))), copied
    if not isinstance(copied, RestorationNetwork):
        network = ForeignNetwork(
            copied,
            scale=info.scale,
            n_channels=info.n_channels,
            info=info,
            size_multiple=size_multiple,
            smallest=smallest,
        )
    if not network.takes_operator:  # one that does cannot do without it
        _try(network, info)
        if network is not copied:
            examined(network)
    known = info if network is copied else network.info
    count = sum(p.numel() for p in network.parameters())
    network.info = replace(known, n_parameters=count, sha256=_fingerprint(network, info))
    return network  # type: ignore[no-any-return]


def _try(network: LoadedNetwork, info: ModelInfo) -> None:
    """Run a small image through a network."""
    from napari_fidelity.networks.probe import check_real

    y = torch.linspace(0.1, 0.9, info.n_channels * _PROBE[0] * _PROBE[1]).reshape(1, info.n_channels, *_PROBE)
    given = (0.1,) if network.takes_noise_level else ()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            x = network(y, *given)
    except ArchitectureError as error:
        if isinstance(error.__cause__, SystemExit):
            raise
        raise ArchitectureError(
            f"'{info.id}' makes no image of its scale, ×{info.scale}, and number of channels, {info.n_channels}",
            found=error.found,
            do="Check scale and n_channels",
        ) from None
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        channels = "1 channel" if info.n_channels == 1 else f"{info.n_channels} channels"
        raise ArchitectureError(
            f"'{info.id}' cannot be applied to an image of {channels} and {_PROBE[0]} × {_PROBE[1]} pixels",
            found=str(error).partition("\n")[0],
            do="Check n_channels; where it takes no image of any size, say size_multiple=8, or smallest=64",
        ) from error
    check_real(x, f"'{info.id}'")
    if not bool(torch.isfinite(x).all()):
        raise ArchitectureError(f"'{info.id}' makes an image that is not finite", do="Check its weights")


def _fingerprint(network: LoadedNetwork, info: ModelInfo) -> str:
    """Return a hash of everything that a network computes with, and of the name of its class.

    The same in another process, whatever the device and precision the network had when it was registered.
    """
    held = [*network.named_parameters(), *network.named_buffers()]
    found = hashlib.sha256(f"{info.architecture} ×{info.scale} {info.n_channels}".encode())
    for name, tensor in sorted(held, key=itemgetter(0)):
        found.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        found.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
