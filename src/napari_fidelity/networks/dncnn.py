"""DnCNN, the denoising convolutional network that predicts the noise.

Zhang, Zuo, Chen, Meng, Zhang, "Beyond a Gaussian Denoiser: Residual Learning of Deep CNN for Image Denoising",
IEEE TIP 2017, arXiv:1608.03981. Weights of the authors' PyTorch programs load by their own names.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar, Self

from torch import nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import random_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch
    from torch import Tensor

_NAME = re.compile(r"model\.(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)")
_FEWEST_PLAIN = 8  # layers; IRCNN, whose convolutions are dilated, has 7 under the same names


class DnCNN(RestorationNetwork):
    """DnCNN: convolutions with batch normalisation and rectifiers, whose output is taken off the input.

    Maps noisy images (N, C, H, W) in [0, 1] to clean ones of the same size, not clipped; any size from 1 × 1 in
    evaluation mode. In the paper 17 layers are for a known noise level, 20 for an unknown one and for colour.

    Parameters
    ----------
    n_channels
        Channels of the image: 1 for gray, 3 for colour.
    n_feats
        Features of every hidden layer.
    n_layers
        Convolutions, from first to last.
    batch_norm
        Whether the hidden layers are normalised; in published weights normalisation may have been merged into the
        convolutions.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "DnCNN"
    scale = 1

    def __init__(
        self, n_channels: int = 1, n_feats: int = 64, n_layers: int = 17, batch_norm: bool = True
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("DnCNN", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("DnCNN", "n_feats", n_feats, 1, 2048)
        self.n_layers = check_integer("DnCNN", "n_layers", n_layers, 3, 256)
        if not isinstance(batch_norm, bool):
            raise ArchitectureError("DnCNN: 'batch_norm' must be true or false", found=repr(batch_norm))
        self.batch_norm = batch_norm
        layers: list[nn.Module] = [nn.Conv2d(n_channels, n_feats, 3, padding=1), nn.ReLU()]
        for _ in range(n_layers - 2):
            layers.append(nn.Conv2d(n_feats, n_feats, 3, padding=1))
            layers += [nn.BatchNorm2d(n_feats)] if batch_norm else []
            layers.append(nn.ReLU())
        self.model = nn.Sequential(*layers, nn.Conv2d(n_feats, n_channels, 3, padding=1))

    @property
    def last_layer(self) -> nn.Conv2d:
        """The final convolution; the output is affine in its weights, and falls as they grow."""
        last = self.model[-1]
        assert isinstance(last, nn.Conv2d)
        return last

    def forward(self, x: Tensor) -> Tensor:
        """Remove noise from (N, C, H, W), nominally in [0, 1]; the result is not clipped.

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float image (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        clean: Tensor = x - self.model(x)
        return clean

    def config(self) -> dict[str, Any]:
        """Return the arguments that build this network again, as plain values."""
        return {name: getattr(self, name) for name in ("n_channels", "n_feats", "n_layers", "batch_norm")}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the weights whether they are those of a :class:`DnCNN`.

        Others number their layers like this too: all must be 3 × 3 convolutions, one behind the other, that end
        with as many channels as they began with.
        """
        if "model.0.weight" not in state_dict or not all(map(_NAME.fullmatch, state_dict)):
            return False
        kernels = _kernels(state_dict)
        chained = all(kernels[i].shape[0] == kernels[i + 1].shape[1] for i in range(len(kernels) - 1))
        normalised = any(name.endswith(".running_mean") for name in state_dict)
        return (
            len(kernels) >= (3 if normalised else _FEWEST_PLAIN)
            and chained
            and all(kernel.shape[2:] == (3, 3) for kernel in kernels)
            and kernels[0].shape[1] == kernels[-1].shape[0]
        )

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights."""
        first = state_dict["model.0.weight"]
        return {
            "n_channels": first.shape[1],
            "n_feats": len(first),
            "n_layers": len(_kernels(state_dict)),
            "batch_norm": any(name.endswith(".running_mean") for name in state_dict),
        }

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near the identity."""
        random_start(self, generator, quiet=(self.last_layer,))
        return self


def _kernels(state_dict: Mapping[str, Tensor]) -> list[Tensor]:
    """Return the weights of the convolutions, in the order in which these act."""
    layers = sorted({int(match[1]) for match in map(_NAME.fullmatch, state_dict) if match})
    weights = (state_dict.get(f"model.{layer}.weight") for layer in layers)
    return [weight for weight in weights if weight is not None and weight.ndim == 4]
