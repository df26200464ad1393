"""Whether what enters a network's last layer lies on the samples of the image, whatever the size."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.methods.last_layer import run_network
from napari_fidelity.networks.probe import follows

if TYPE_CHECKING:
    from torch import nn

    from napari_fidelity.methods.last_layer import Pass

_ODD = (23, 17)  # pixels of an input that few networks take without padding


@torch.no_grad()
def is_aligned(network: nn.Module, y: torch.Tensor, run: Pass) -> bool:
    """Tell whether the features of a run lie on the image's samples, and will at other sizes of the input.

    A network may pad its input on any side, or only at sizes that are no multiple of something: then the features
    are larger than the image. It is run on an odd size; where it pads that, a change of the layer must show in the
    image from the first row and column on.

    Parameters
    ----------
    network
        The network.
    y
        Its input ``(N, C, H, W)``.
    run
        The run on that, with a last layer.
    """
    assert run.layer is not None
    odd = y[..., : _ODD[0], : _ODD[1]]
    try:
        with torch.autocast(y.device.type, enabled=False):  # rounding would hide what is looked for
            found = run_network(network, run.layer, odd)
            if _are_alike(found):
                return True
            assert found.features is not None
            return found.is_covered and follows(network, run.layer, found.features, odd, found.image)
    except ArchitectureError:  # one that takes no such sizes pads none
        return _are_alike(run)


def _are_alike(run: Pass) -> bool:
    """Tell whether features and image have the same size."""
    return run.features is not None and run.features.shape[2:] == run.image.shape[2:]
