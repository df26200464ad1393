"""Convolution with any border, direct or by FFT, and its exact adjoint.

Every border but ``circular`` by FFT is one chain: extend the image by the border, keep the outputs for which
the whole kernel has data (``valid``). The adjoint runs it backwards: full correlation, then fold the
extension back onto the samples it was copied from.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional

from napari_fidelity.operators._autograd import linear_map, own_precision
from napari_fidelity.operators._axes import Border, border_index
from napari_fidelity.operators._matrix import plain_tensor
from napari_fidelity.operators.separable import inverse_eigenvalues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.operators.blur import Kernel

FFT_COST = 1.5
"""Cost of an FFT convolution per sample and ``log2(samples)``, in multiplications of the direct one.

Measured on one core, float32, 64² to 1024² and 32³ to 64³, kernels of 3 to 41 samples a side: equal speed lies at
5×5 to 7×7 in 2-D and 3×3×3 to 5×5×5 in 3-D.
"""


def convolve(x: torch.Tensor, kernel: Kernel, border: Border) -> torch.Tensor:
    """Convolve ``x (N, C, *n)`` with the kernel."""
    image = tuple(x.shape[2:])
    return linear_map(x, lambda t: _forward(t, kernel, border), lambda t: _adjoint(t, kernel, border, image))


def convolve_adjoint(y: torch.Tensor, kernel: Kernel, border: Border, image: tuple[int, ...]) -> torch.Tensor:
    """Apply the adjoint of :func:`convolve` to ``y (N, C, *m)``, giving an image of spatial shape ``image``."""
    return linear_map(y, lambda t: _adjoint(t, kernel, border, image), lambda t: _forward(t, kernel, border))


def circular_pseudo_inverse(y: torch.Tensor, kernel: Kernel, ridge: float) -> torch.Tensor:
    """Return ``Aᵀ (A Aᵀ + ridge·I)⁻¹ y`` of circular convolution: ``conj(K) Y / (|K|² + ridge)``."""
    spectrum = _spectrum(kernel, tuple(y.shape[2:]), True, _work(y.dtype), y.device)
    inverse = spectrum.conj() * inverse_eigenvalues(spectrum.abs().square(), ridge)
    return _filter(y, inverse, tuple(y.shape[2:]))


def prefers_fft(kernel: Sequence[int], image: Sequence[int]) -> bool:
    """Tell whether the FFT is the faster way, by the rule of :data:`FFT_COST`."""
    return math.prod(kernel) > FFT_COST * math.log2(max(2, math.prod(image)))


def _forward(x: torch.Tensor, kernel: Kernel, border: Border) -> torch.Tensor:
    image, size = tuple(x.shape[2:]), kernel.values.shape
    by_fft = prefers_fft(size, image)
    if border == "circular" and by_fft:
        return _filter(x, _spectrum(kernel, image, True, _work(x.dtype), x.device), image)
    padded = _extend(x, size, border)
    if not by_fft:
        return _direct(padded, kernel)
    shape = tuple(padded.shape[2:])
    full = _filter(padded, _spectrum(kernel, _fast(shape), False, _work(x.dtype), x.device), _fast(shape))
    return _crop(full, [k - 1 for k in size], shape)


def _adjoint(y: torch.Tensor, kernel: Kernel, border: Border, image: tuple[int, ...]) -> torch.Tensor:
    size = kernel.values.shape
    by_fft = prefers_fft(size, image)
    if border == "circular" and by_fft:
        return _filter(y, _spectrum(kernel, image, True, _work(y.dtype), y.device).conj(), image)
    if not by_fft:
        return _fold(_direct_transposed(y, kernel), size, border, image)
    shape = tuple(m + k - 1 for m, k in zip(y.shape[2:], size, strict=True))
    # where the forward pass took its outputs from
    shifted = functional.pad(y, [p for k in reversed(size) for p in (k - 1, 0)])
    full = _filter(shifted, _spectrum(kernel, _fast(shape), False, _work(y.dtype), y.device).conj(), _fast(shape))
    return _fold(_crop(full, [0] * len(shape), shape), size, border, image)


def _direct(x: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    return _correlate(x, _weights(kernel, True, x.dtype, x.device))


def _direct_transposed(y: torch.Tensor, kernel: Kernel) -> torch.Tensor:
    # torch's own transposed convolution is up to 20 times slower on a CPU
    full = functional.pad(y, [p for k in reversed(kernel.values.shape) for p in (k - 1, k - 1)])
    return _correlate(full, _weights(kernel, False, y.dtype, y.device))


def _correlate(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    flat = x.reshape(-1, 1, *x.shape[2:])
    convolution = functional.conv2d if x.ndim == 4 else functional.conv3d
    with own_precision(x):
        out = convolution(flat, weights[None, None])
    return out.reshape(*x.shape[:2], *out.shape[2:])


def _filter(x: torch.Tensor, spectrum: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Multiply by ``spectrum`` in the Fourier domain of ``shape``, zero-padding ``x`` to it."""
    axes = tuple(range(2, x.ndim))
    transformed: torch.Tensor = torch.fft.rfftn(x.to(_work(x.dtype)), s=list(shape), dim=axes)
    filtered: torch.Tensor = torch.fft.irfftn(transformed * spectrum, s=list(shape), dim=axes)
    return filtered.to(x.dtype)


def _crop(x: torch.Tensor, starts: Sequence[int], stops: Sequence[int]) -> torch.Tensor:
    for dim, (start, stop) in enumerate(zip(starts, stops, strict=True), start=2):
        x = x.narrow(dim, start, stop - start)
    return x


def _extend(x: torch.Tensor, size: Sequence[int], border: Border) -> torch.Tensor:
    if border == "valid":
        return x
    if border == "zero":
        return functional.pad(x, [p for k in reversed(size) for p in _margins(k)])
    for dim, k in enumerate(size, start=2):
        before, after = _edges(k, x.shape[dim], border, x.device)
        x = torch.cat([x.index_select(dim, before), x, x.index_select(dim, after)], dim)
    return x


def _fold(x: torch.Tensor, size: Sequence[int], border: Border, image: Sequence[int]) -> torch.Tensor:
    """Apply the adjoint of :func:`_extend`."""
    if border == "valid":
        return x
    for dim in range(x.ndim - 1, 1, -1):
        k, n = size[dim - 2], image[dim - 2]
        start, stop = _margins(k)
        inside = x.narrow(dim, start, n)
        if border != "zero":
            before, after = _edges(k, n, border, x.device)
            inside = inside.clone()
            inside.index_add_(dim, before, x.narrow(dim, 0, start))
            inside.index_add_(dim, after, x.narrow(dim, start + n, stop))
        x = inside
    return x


def _margins(k: int) -> tuple[int, int]:
    """Return how far a kernel of ``k`` samples with centre ``k // 2`` reaches before and after a sample."""
    return k - 1 - k // 2, k // 2


@lru_cache(maxsize=64)
def _edges(k: int, n: int, border: Border, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    start, stop = _margins(k)
    before = border_index(np.arange(-start, 0), n, border)
    after = border_index(np.arange(n, n + stop), n, border)
    with torch.inference_mode(False):
        return torch.from_numpy(before).to(device), torch.from_numpy(after).to(device)


@lru_cache(maxsize=32)
def _weights(kernel: Kernel, flipped: bool, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return plain_tensor(np.flip(kernel.values) if flipped else kernel.values, dtype, device)


@lru_cache(maxsize=16)
def _spectrum(
    kernel: Kernel, shape: tuple[int, ...], centred: bool, dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """Return the kernel's transform on a grid of ``shape``, its centre (or its first sample) at the origin."""
    values = kernel.values
    grid = np.zeros(shape)
    index = [(np.arange(k) - (k // 2 if centred else 0)) % n for k, n in zip(values.shape, shape, strict=True)]
    np.add.at(grid, np.ix_(*index), values)  # a kernel wider than the grid wraps around
    complex_dtype = torch.complex128 if dtype == torch.float64 else torch.complex64
    with torch.inference_mode(False):
        spectrum: torch.Tensor = torch.fft.rfftn(torch.from_numpy(grid))
        return spectrum.to(complex_dtype).to(device)


def _work(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _fast(shape: Sequence[int]) -> tuple[int, ...]:
    from scipy.fft import next_fast_len

    return tuple(next_fast_len(n, real=True) for n in shape)
