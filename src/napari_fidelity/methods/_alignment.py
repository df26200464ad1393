"""Whether what enters a network's last layer lies on the samples of the image, whatever the size."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.methods.calls import call_network
from napari_fidelity.methods.last_layer import run_network
from napari_fidelity.networks.adapters import innermost, is_bound
from napari_fidelity.networks.probe import follows

if TYPE_CHECKING:
    from torch import nn

    from napari_fidelity.methods.last_layer import Pass

_ODD = (23, 17)  # pixels of an input that few networks take without padding


@torch.no_grad()
def is_aligned(network: nn.Module, run: Pass) -> bool:
    """Tell whether the features of a run lie on the image's samples, and will at other sizes of the input.

    A network may pad its input on any side, or only at sizes that are no multiple of something: then the features
    are larger than the image. It is run on a random image of an odd size; where it pads that, a change of the
    layer must show in the output from the first row and column on.

    Parameters
    ----------
    network
        The network.
    run
        A run of it, with a last layer.
    """
    assert run.layer is not None
    if is_bound(network):  # to an operator, for which a random image is no measurement
        return _are_alike(run)
    inner = innermost(network)
    channels = int(getattr(inner, "n_channels", run.image.shape[1]))
    y = torch.rand(1, channels, *_ODD, generator=torch.Generator().manual_seed(0)).to(run.image.device)
    try:
        with torch.autocast(y.device.type, enabled=False):  # rounding would hide what is looked for
            found = run_network(inner, run.layer, y)
            if _are_alike(found):
                return True
            assert found.features is not None
            again = partial(call_network, inner, y)
            return found.is_covered and follows(run.layer, found.features, found.image, again)
    except FidelityError:  # one that takes no such sizes pads none
        return _are_alike(run)


def _are_alike(run: Pass) -> bool:
    """Tell whether features and image have the same size."""
    return run.features is not None and run.features.shape[2:] == run.image.shape[2:]
