"""VSR, the video super-resolution network that fine-tuning was first shown on.

Lucas, López-Tapia, Molina, Katsaggelos, "Generative Adversarial Networks and Perceptual Losses for Video
Super-Resolution", IEEE TIP 2019, doi:10.1109/TIP.2019.2895768 (VSRMSE and VSRGAN differ in their training only);
as used on still images and at other scales in Lucas et al. 2019 (ICIP) and 2020, arXiv:1912.12879.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import nn
from torch.nn import functional as F

from napari_fidelity.core.errors import ArchitectureError, ShapeError
from napari_fidelity.networks.base import RestorationNetwork, check_integer
from napari_fidelity.networks.blocks import ResidualBlock, bicubic, random_start

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


class VSR(RestorationNetwork):
    """VSR: five bicubically enlarged frames in, residual blocks, the middle frame out.

    Maps consecutive frames of one clip (N, C, H, W), the batch axis being time, to (N, C, scale·H, scale·W),
    nominal range [0, 1], not clipped. Each frame is restored from the window of frames around it, which mirrors at
    both ends of the clip; a single frame is a still image, of which the window holds replicas.

    The papers on fine-tuning state the bicubic enlargement in front, the five frames, the 15 residual blocks and
    the middle frame as the output. Chosen here: 64 features, 3 × 3 convolutions, blocks without normalisation (Lim
    2017), a first layer that sees all frames at once, and that the network adds to the enlarged middle frame.

    Parameters
    ----------
    n_channels
        Channels of a frame.
    n_feats
        Features of every hidden layer.
    n_blocks
        Residual blocks, all at the resolution of the output.
    scale
        Factor of the enlargement. No weight depends on it: :meth:`to_scale` goes to any other one.
    frames
        Frames of a window, an odd number.

    Raises
    ------
    ArchitectureError
        If a setting is out of its range.
    """

    architecture: ClassVar[str] = "VSR"

    def __init__(
        self, n_channels: int = 3, n_feats: int = 64, n_blocks: int = 15, scale: int = 4, frames: int = 5
    ) -> None:
        super().__init__()
        self.n_channels = check_integer("VSR", "n_channels", n_channels, 1, 64)
        self.n_feats = check_integer("VSR", "n_feats", n_feats, 1, 2048)
        self.n_blocks = check_integer("VSR", "n_blocks", n_blocks, 0, 512)
        self.scale = check_integer("VSR", "scale", scale, 1, 16)
        self.frames = check_integer("VSR", "frames", frames, 1, 31)
        if frames % 2 == 0:
            raise ArchitectureError("VSR: 'frames' must be odd, for there to be a middle one", found=repr(frames))
        self.fuse = nn.Conv2d(frames * n_channels, n_feats, 3, padding=1)
        self.blocks = nn.Sequential(*(ResidualBlock(n_feats) for _ in range(n_blocks)))
        self.tail = nn.Conv2d(n_feats, n_channels, 3, padding=1)

    @property
    def last_layer(self) -> nn.Conv2d:
        """The convolution to whose weight and bias the output is affine."""
        return self.tail

    def forward(self, x: Tensor) -> Tensor:
        """Restore every frame of a clip (N, C, H, W) in [0, 1] to (N, C, scale·H, scale·W).

        Raises
        ------
        ShapeError, ArchitectureError
            If `x` is no float clip (N, C, H, W), or not one of `n_channels` channels.
        """
        self.check_input(x)
        enlarged = bicubic(x, self.scale)
        windows = enlarged[_window_index(len(x), self.frames, x.device)]
        return enlarged + self._details(windows.flatten(1, 2))

    def restore_middle(self, windows: Tensor) -> Tensor:
        """Restore the middle frame of each of several clips, as training asks for.

        Parameters
        ----------
        windows
            (N, frames·C, H, W) in [0, 1]: N clips, the channels of the first frame first.

        Returns
        -------
        torch.Tensor
            (N, C, scale·H, scale·W).

        Raises
        ------
        ShapeError
            If `windows` has another layout.
        """
        n = self.n_channels
        if windows.ndim != 4 or windows.shape[1] != self.frames * n:
            raise ShapeError(f"VSR needs windows (N, {self.frames * n}, H, W)", found=f"{tuple(windows.shape)}")
        enlarged = bicubic(windows, self.scale)
        middle = self.frames // 2 * n
        return enlarged[:, middle : middle + n] + self._details(enlarged)

    def _details(self, windows: Tensor) -> Tensor:
        details: Tensor = self.tail(self.blocks(F.relu(self.fuse(windows - 0.5))))
        return details

    def config(self) -> dict[str, Any]:
        """Return the arguments, as plain values, that build a network of the same shape."""
        return {name: getattr(self, name) for name in ("n_channels", "n_feats", "n_blocks", "scale", "frames")}

    @classmethod
    def detect(cls, state_dict: Mapping[str, Tensor]) -> bool:
        """Tell from the names of the weights whether they are those of a :class:`VSR`."""
        return {"fuse.weight", "fuse.bias", "tail.weight"} <= state_dict.keys()

    @classmethod
    def infer_config(cls, state_dict: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the arguments of the constructor that fit these weights.

        `scale` leaves no trace in the weights; it takes its default value.

        Raises
        ------
        ArchitectureError
            If the first layer does not hold whole frames of the last layer's channels.
        """
        fuse, channels = state_dict["fuse.weight"], len(state_dict["tail.weight"])
        frames, rest = divmod(fuse.shape[1], channels)
        if fuse.ndim != 4 or rest:
            raise ArchitectureError(
                "The first layer of VSR does not hold whole frames",
                found=f"{tuple(fuse.shape)} for frames of {channels} channels",
            )
        blocks = {name.split(".")[1] for name in state_dict if name.startswith("blocks.")}
        return {"n_channels": channels, "n_feats": len(fuse), "n_blocks": len(blocks), "frames": frames}

    def _rescaled(self, scale: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        # Lucas 2020: the enlargement comes before the network, which stays as it is.
        return {**self.config(), "scale": scale}, self.state_dict()

    def start_as_interpolation(self, generator: torch.Generator | None = None) -> Self:
        """Initialise so that the network begins near bicubic interpolation of the middle frame."""
        random_start(self, generator, quiet=(self.tail,))
        return self


def _window_index(length: int, frames: int, device: torch.device) -> Tensor:
    """Return which frames the window of each of `length` frames holds, (length, frames), mirrored at both ends."""
    around = torch.arange(frames, device=device) - frames // 2
    at = torch.arange(length, device=device)[:, None] + around
    if length == 1:
        return torch.zeros_like(at)
    folded = at % (2 * (length - 1))
    return torch.minimum(folded, 2 * (length - 1) - folded)
