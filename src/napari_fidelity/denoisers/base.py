"""What every denoiser promises."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from napari_fidelity.core.errors import ArchitectureError, ImageError, NonFiniteError, OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    Network = Callable[..., Tensor]


class Denoiser(Options, ABC):
    """Removes white Gaussian noise of known level: image ``x`` and standard deviation ``σ`` to image.

    Denoisers are stateless, deterministic and thread-safe: :meth:`denoise` may run beside a thread that trains a
    network. They know nothing of a range of intensities: values beyond [0, 1] are data and nothing is clipped.

    A subclass is one file, one line in :mod:`napari_fidelity.denoisers.spec` and one row in the table of the
    tests.

    Attributes
    ----------
    needs_network
        Whether :meth:`denoise` has to be given a network.
    title
        Its name in words, for menus and tables, with what has to be known before it is chosen.
    """

    kind: str
    needs_network: ClassVar[bool] = False
    title: ClassVar[str]

    def denoise(self, x: Tensor, sigma: float, network: Network | None = None) -> Tensor:
        """Remove the noise from images; no gradient flows through.

        Parameters
        ----------
        x
            Noisy images ``(N, C, *spatial)``, spatial 2-D or 3-D, any number of channels, on any device, nominally
            in [0, 1].
        sigma
            Standard deviation of the noise, on the scale of `x`; 0 returns `x` itself.
        network
            The network, for a denoiser that :attr:`needs_network`; others ignore it.

        Returns
        -------
        Tensor
            The denoised images, of the shape, dtype and device of `x`.

        Raises
        ------
        ImageError
            If `x` is no float tensor of such a shape, or empty.
        NonFiniteError
            If `x`, or what the denoiser makes of it, holds NaN or infinity.
        OptionError
            If `sigma` is negative or not finite.
        ArchitectureError
            If a network is needed and none is given, or it does not fit.
        MissingDependencyError
            If the library behind the denoiser is missing.
        """
        sigma = float(sigma)
        if not 0 <= sigma < math.inf:
            raise OptionError("The noise level must be zero or positive", found=str(sigma))
        if self.needs_network and network is None:
            raise ArchitectureError(
                "This denoiser is a network, and none was given", do="Give a model, such as drunet-s"
            )
        _check(x)
        if sigma == 0:
            return x
        with torch.no_grad():
            output = self._denoise(x.detach().float(), sigma, network).to(x.dtype).contiguous()
        if not bool(output.isfinite().all()):
            raise NonFiniteError(
                "The denoised image holds values that are not finite",
                found=f"intensities from {float(x.min()):.3g} to {float(x.max()):.3g}, noise level {sigma:.3g}",
                do="Check the intensity scaling, or use another denoiser",
            )
        return output

    @abstractmethod
    def _denoise(self, x: Tensor, sigma: float, network: Network | None) -> Tensor:
        """Denoise finite float32 images, ``sigma > 0``, gradients off."""


def _check(x: Tensor) -> None:
    if not x.is_floating_point() or x.ndim not in (4, 5) or x.numel() == 0:
        raise ImageError(
            "A denoiser needs images (N, C, *spatial) of floats, with 2-D or 3-D space",
            found=f"shape {tuple(x.shape)}, {x.dtype}",
            do="Add the batch and channel axes and convert the image to float",
        )
    finite = x.isfinite()
    if not bool(finite.all()):
        raise NonFiniteError(
            "The image to be denoised holds values that are not finite",
            found=f"{int((~finite).sum())} of {x.numel()}",
            do="Fill them with something sane",
        )


def on_arrays(
    x: Tensor, function: Callable[[NDArray[np.float64]], NDArray[np.floating]], *, slices: bool = False
) -> Tensor:
    """Apply a function on arrays ``(*spatial, C)`` to every image of a batch.

    Parameters
    ----------
    x
        Images ``(N, C, *spatial)``.
    function
        Maps such an array to one of the same shape.
    slices
        Whether volumes are taken apart into slices ``(H, W, C)`` along their first axis.
    """
    images = x.movedim(1, -1)
    flat = images.flatten(0, 1) if slices and x.ndim == 5 else images
    arrays = flat.cpu().double().contiguous().numpy()
    output = torch.stack([torch.from_numpy(function(array)).float() for array in arrays])
    return output.reshape(images.shape).movedim(-1, 1).to(x.device)


def reflected(x: Tensor, widths: Sequence[tuple[int, int]]) -> Tensor:
    """Return images ``(N, C, *spatial)`` continued by reflection, repeated where they are too small for it.

    Parameters
    ----------
    x
        The images.
    widths
        Pixels to add before and after, for each spatial axis.
    """
    for axis, width in enumerate(widths, start=2):
        if any(width):
            places = torch.from_numpy(np.pad(np.arange(x.shape[axis]), width, mode="reflect"))
            x = x.index_select(axis, places.to(x.device))
    return x
