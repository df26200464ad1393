"""Adapting a denoising network to the one noisy image at hand, without a clean one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from napari_fidelity.core.precision import autocast
from napari_fidelity.denoisers.network import NetworkDenoiser, prepared
from napari_fidelity.methods._network import untrainable
from napari_fidelity.methods.calls import in_channels_last
from napari_fidelity.methods.views import VIEWS, from_view, to_view
from napari_fidelity.networks.adapters import call_at_level
from napari_fidelity.networks.copies import private_copy

if TYPE_CHECKING:
    from napari_fidelity.denoisers import Denoiser
    from napari_fidelity.methods.base import Network

_ALPHA = 0.5  # noise that is added for noise that there is; what is taken away from the target is 1/α as much
_RATE = 2e-4  # of Adam, falling to 0
SIDE = 256
"""Pixels along an axis of the part that one step looks at, so that it takes no longer on a large image."""


class Adaptation:
    """Fine-tuning of a denoiser on recorrupted pairs of one noisy image ``y``.

    With white Gaussian noise ``n`` of the level ``σ`` of the image, ``y + α n`` and ``y − n/α`` have independent
    noise: a network that makes the second of the first learns to make the clean image (recorrupted-to-recorrupted:
    Pang, Zheng, Quan, Ji 2021, doi:10.1109/CVPR46437.2021.00208). Each step looks at a part of the image in one of
    its eight flips and turns.

    Parameters
    ----------
    model
        The network; a private copy of it is adapted.
    denoiser
        Its declaration.
    y
        The image (N, C, H, W).
    start
        What the network makes of it so far.
    sigma
        Standard deviation of its noise.
    steps
        Number of gradient steps there will be.
    seed
        Of the added noise and the places of the parts.
    """

    def __init__(
        self,
        model: nn.Module,
        denoiser: Denoiser,
        y: torch.Tensor,
        start: torch.Tensor,
        sigma: float,
        steps: int,
        seed: int,
    ) -> None:
        self.y, self.sigma, self.steps = y, sigma, steps
        copied = in_channels_last(private_copy(model, y.device))
        self.network = copied
        self._run, self._fold = prepared(copied, y.shape[1])
        parameters = [p.requires_grad_(True) for p in copied.parameters() if p.is_floating_point()]
        self._optimizer = torch.optim.Adam(parameters, lr=_RATE)
        self._rng = torch.Generator().manual_seed(seed)
        assert isinstance(denoiser, NetworkDenoiser)
        self._autocast = autocast(denoiser.precision, y.device)
        self.image = start

    @staticmethod
    def suits(denoiser: Denoiser, model: Network | None) -> bool:
        """Tell whether a denoiser is a network that can learn."""
        trainable = (
            isinstance(model, nn.Module)
            and not untrainable(model)
            and any(p.is_floating_point() for p in model.parameters())
        )
        return isinstance(denoiser, NetworkDenoiser) and trainable

    def step(self, index: int) -> None:
        """Take one step; :attr:`image` then shows what the network made of the part that it looked at."""
        rows, columns = (self._part(n) for n in self.y.shape[2:])
        view = VIEWS[index % len(VIEWS)]
        y = to_view(self.y[..., rows, columns], view)
        noise = self.sigma * torch.randn(y.shape, generator=self._rng).to(y)
        noisy = y + _ALPHA * noise
        planes = noisy.reshape(-1, 1, *y.shape[2:]) if self._fold else noisy
        with torch.enable_grad():
            with self._autocast:
                output = call_at_level(
                    self._run,
                    planes.contiguous(memory_format=torch.channels_last),
                    self.sigma * (1 + _ALPHA**2) ** 0.5,
                )
            output = output.float().reshape(y.shape)
            loss = (output - (y - noise / _ALPHA)).square().mean()
            for group in self._optimizer.param_groups:
                group["lr"] = _RATE * (1 - index / self.steps)
            self._optimizer.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
        self._optimizer.step()
        self.image = self.image.clone()
        self.image[..., rows, columns] = from_view(output.detach(), view)

    def _part(self, length: int) -> slice:
        start = int(torch.randint(max(1, length - SIDE + 1), (1,), generator=self._rng))
        return slice(start, start + SIDE)
