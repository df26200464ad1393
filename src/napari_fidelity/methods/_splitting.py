"""The image, the multiplier and the penalties of DeepRED's ADMM, for one network."""

from __future__ import annotations

import math
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from napari_fidelity.methods.deepred import GROWTH_GAIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fidelity.methods.base import Network
    from napari_fidelity.methods.deepred import DeepRED

_LEAST_SIGMA = 8 / 255  # that the denoiser is told: the network's images have errors of their own
_LEAST_OF_SAMPLES = 2 / 255  # where the measurement is no picture of the image: its noise spreads over all of it
_GROWTH = 0.06  # of β, as published for denoising
_MOST = 1.5  # times what β was at first
_LEAST_WEIGHT = 0.05  # of β and μ, as published for measurements with little noise
_WEIGHT = 47.0  # of the noise's variance: 0.5 at σ = 25/255, as published for denoising


class Splitting:
    """``x`` and ``u`` beside one network ``T``.

    Parameters
    ----------
    options
        Of the method.
    image
        First ``x``, (N, C, *n).
    model
        Network of the denoiser, if it has one.
    sigma
        Standard deviation of the noise, as an image shows it.
    gain
        Squared intensity of the measurement for one of the image, which the data term is counted in.
    thread
        One thread, in which the denoiser works.
    picture
        Whether the measurement shows the image.
    """

    def __init__(
        self,
        options: DeepRED,
        image: torch.Tensor,
        model: Network | None,
        sigma: float,
        gain: float,
        thread: ThreadPoolExecutor,
        picture: bool = True,
    ) -> None:
        self.options, self.model, self.gain, self._thread = options, model, gain, thread
        self.sigma_f = options.sigma_f or max(sigma / 2, _LEAST_SIGMA if picture else _LEAST_OF_SAMPLES)
        self.x, self.u = image, torch.zeros_like(image)
        weight = _LEAST_WEIGHT + _WEIGHT * sigma**2
        self.beta, self.mu = options.beta or weight, options.mu or weight
        self.growth = _GROWTH * self.beta if options.growth is None else options.growth
        # a level that was stated far too high must not smooth everything away
        self._most = _MOST * self.beta if options.growth is None else math.inf
        # dB by which the fit may lag behind or be ahead of the noise's level before the penalties grow
        self._threshold = -10 * math.log10(options.tau)
        self._pending = self._send()
        self._denoised = self.x

    @staticmethod
    @contextmanager
    def thread() -> Iterator[ThreadPoolExecutor]:
        """Hold the thread that the denoisers of one run work in; what waits in the end is not done any more."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="denoiser")
        try:
            yield pool
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _send(self) -> Future[torch.Tensor]:
        return self._thread.submit(self.options.denoiser.denoise, self.x.clone(), self.sigma_f, self.model)

    def penalty(self, output: torch.Tensor) -> torch.Tensor:
        """Return ``μ`` times the mean square of ``T − (x − u)``, differentiable."""
        return self.gain * self.mu * (output - (self.x - self.u)).square().mean()

    def update(self, index: int, output: torch.Tensor, fit: float) -> None:
        """Update ``x``, ``u`` and the penalties after iteration ``index``.

        Parameters
        ----------
        index
            Number of the iteration.
        output
            The network's image, detached.
        fit
            By how many dB its residual is smaller than the noise.
        """
        every = self.options.every
        if index % every == 0:
            self._denoised = self._pending.result()
        target = output + self.u
        if self.options.update == "fixed_point":
            self.x = (self.beta * self._denoised + self.mu * target) / (self.beta + self.mu)
        else:
            # 1/(β + μ) is the step that the fixed point would take if the denoiser changed nothing.
            slope = self.beta * (self.x - self._denoised) + self.mu * (self.x - target)
            self.x = self.x - slope / (self.beta + self.mu)
        if self.options.clip:
            self.x = self.x.clamp(0, 1)
        self.u = target - self.x
        if index % every == 0 and index + every < self.options.iterations:
            self._pending = self._send()
        if self.growth and fit > self._threshold and self.beta < self._most:
            self._threshold += GROWTH_GAIN
            self.beta += self.growth
            self.mu += self.growth
