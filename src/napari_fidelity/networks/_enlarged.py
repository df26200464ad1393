"""A 3-tap convolution of a linearly enlarged image, computed on the pixels before enlargement.

With ``u`` the image ``x`` enlarged twice and ``e_i = x_i − x_{i+1}``, a kernel ``(a, b, c)`` gives along one axis

    y_{2i}   = (a + b + c) x_i + (¾a + ¼b) e_{i−1} − ¼c e_i,
    y_{2i+1} = (a + b + c) x_i + ¼a e_{i−1} − (¼b + ¾c) e_i:

five products instead of six, 25 instead of 36 in a plane and 125 instead of 216 in a volume, and neither the
enlarged image nor its concatenation, its normalisation and its padding are ever written. With ``e = 0`` beyond
the ends this repeats the last pixel of ``u``; where it is to be reflected, ``−¼a e_0`` is added to the first
sample and ``¼c e_{n−2}`` to the last one. The mean of ``u`` is that of ``x``, and the sum of ``u²`` is
``2 Σ x² − ⅜ Σ e²``.

The result is left as it comes: for each pixel of ``x`` its 2, 4 or 8 pixels of the enlarged image side by side
along the last axis (its phases), which a 1 × 1 convolution and a normalisation do not mind; :func:`in_place`
sorts them.
"""

from __future__ import annotations

import itertools
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional as F

from napari_fidelity.networks._untrained_module import channels_last, convolve, extended

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

Axes = tuple[int, ...]

# What makes the samples of one axis from a part of the image: outputs × taps × the kernel's three weights.
_AXIS: dict[str, list[list[list[float]]]] = {
    "base": [[[1, 1, 1]]],
    "difference": [[[0.75, 0.25, 0], [0, 0, -0.25]], [[0.25, 0, 0], [0, -0.25, -0.75]]],
    "plain": [[[1, 0, 0], [0, 1, 0], [0, 0, 1]]],  # an axis that is not enlarged
}
_LESS = -0.1875  # of the mean of e² in that of u²


def convolve_enlarged(x: Tensor, skipped: Tensor | None, scale: Tensor, weight: Tensor, axes: Axes) -> Tensor:
    """Return the convolution of ``[skipped, u]`` with ``scale / sqrt(variance + 1e-5) · weight``.

    That is batch normalisation before the convolution but for a constant for each channel, which batch
    normalisation after it takes out.

    Parameters
    ----------
    x
        Image (N, C, *shape).
    skipped
        What lies before it in the concatenation, at the enlarged size, or ``None``.
    scale
        Weights of the normalisation of all channels.
    weight
        Kernel (out, channels, 3, 3[, 3]).
    axes
        The axes of `x` that are enlarged, counted from 2; each has at least 2 pixels.

    Returns
    -------
    torch.Tensor
        (N, out, *shape) with the last axis longer by the number of phases.
    """
    own = 0 if skipped is None else skipped.shape[1]
    variance, *found = _Differences.apply(x, axes)
    differences, ends = found[: -len(axes)], found[-len(axes) :]
    kernel = _normalised(weight[:, own:], scale[own:], variance)
    terms = [
        _term(part, kernel, chosen, axes) for part, chosen in zip([x, *differences], _subsets(axes), strict=True)
    ]
    if skipped is not None:
        terms.append(_skip_term(skipped, weight[:, :own], scale[:own], axes))
    faces = [face for end, axis in zip(ends, axes, strict=True) for face in _faces(end, kernel, axis, axes)]
    y: Tensor = _Sum.apply(axes, x.shape[2:], len(faces), *terms, *faces)
    return y


def in_place(y: Tensor, shape: Sequence[int], axes: Axes) -> Tensor:
    """Return the phases (N, C, ...) as the enlarged image (N, C, *shape)."""
    coarse = [n // 2 if axis in axes else n for axis, n in enumerate(shape, start=2)]
    split = _unfolded(y, coarse, axes)
    order = [0]
    for axis in range(1, len(shape) + 1):
        order += [axis, len(shape) + 1 + axes.index(axis + 1)] if axis + 1 in axes else [axis]
    image = split.permute(*order, split.ndim - 1).reshape(len(y), *shape, y.shape[1])
    return image.movedim(-1, 1)


@cache
def _subsets(axes: Axes) -> list[Axes]:
    return [chosen for size in range(len(axes) + 1) for chosen in itertools.combinations(axes, size)]


# -- kernels ----------------------------------------------------------------------------------------------------


def _normalised(weight: Tensor, scale: Tensor, variance: Tensor) -> Tensor:
    factor = scale * torch.rsqrt(variance.clamp_min(0) + 1e-5)
    return weight * factor.view(1, -1, *[1] * (weight.ndim - 2))


def _kernel(weight: Tensor, per_axis: Sequence[str]) -> Tensor:
    """Return the kernel (phases · out, in, *taps) that makes the phases from a part of the image."""
    matrix, taps = _matrix(tuple(per_axis), weight.dtype, weight.device)
    outputs, inputs = weight.shape[:2]
    flat = weight.movedim((0, 1), (-2, -1)).reshape(matrix.shape[-1], outputs * inputs)
    with torch.autocast(weight.device.type, enabled=False):  # rounded once, when it is used
        kernel = matrix.flatten(0, 1) @ flat
    kernel = kernel.view(*matrix.shape[:2], outputs, inputs).permute(0, 2, 3, 1)
    return kernel.reshape(len(matrix) * outputs, inputs, *taps)


@cache
def _matrix(per_axis: tuple[str, ...], dtype: torch.dtype, device: torch.device) -> tuple[Tensor, list[int]]:
    """Return the matrix (phases, taps, weights) of all axes together, and the number of taps of each."""
    whole: NDArray[np.float64] = np.ones((1, 1, 1))
    for name in per_axis:
        whole = np.kron(whole, np.array(_AXIS[name]))
    with torch.inference_mode(False):  # kept for runs with gradients
        return torch.tensor(whole, dtype=dtype, device=device), [len(_AXIS[name][0]) for name in per_axis]


# -- the terms --------------------------------------------------------------------------------------------------


def _term(part: Tensor, kernel: Tensor, chosen: Axes, axes: Axes) -> Tensor:
    """Return the share of the differences along some axes, as (N, *shape, *their phases, out)."""
    every = range(2, part.ndim)
    part = extended(part, [axis for axis in every if axis not in axes])
    kinds = ["difference" if axis in chosen else "base" if axis in axes else "plain" for axis in every]
    y = convolve(part.ndim - 2)(
        part, _kernel(kernel, kinds), None, 1, tuple(int(axis in chosen) for axis in every)
    )
    return _split(y, len(chosen), kernel.shape[0])


def _skip_term(skipped: Tensor, weight: Tensor, scale: Tensor, axes: Axes) -> Tensor:
    """Return the share of what comes at the enlarged size."""
    every = range(2, skipped.ndim)
    wide = skipped if skipped.dtype == torch.float64 else skipped.float()
    kernel = _normalised(weight, scale, wide.var([0, *every], unbiased=False))
    y = convolve(skipped.ndim - 2)(extended(skipped, every), kernel)
    return _phases_of(y, axes)


def _split(y: Tensor, doubled: int, outputs: int) -> Tensor:
    y = y.movedim(1, -1)
    return y.view(*y.shape[:-1], *[2] * doubled, outputs)


def _faces(face: Tensor, kernel: Tensor, axis: int, axes: Axes) -> list[Tensor]:
    """Return what reflection adds to the first and the last sample along an axis, from both ends' differences.

    Axes before this one repeat their last pixel here: what reflection adds there is in their own faces.
    """
    ndim = face.ndim
    others = [other for other in axes if other != axis]
    if others:
        mode = {4: "bilinear", 5: "trilinear"}[ndim]
        factors = [2.0 if other in others else 1.0 for other in range(2, ndim)]
        face = F.interpolate(face, scale_factor=factors, mode=mode, align_corners=False)
    before = [other for other in others if other < axis]
    face = extended(face, [other for other in range(2, ndim) if other != axis and other not in before])
    face = extended(face, before, reflect=False)
    weights = torch.cat([kernel.narrow(axis, 0, 1), kernel.narrow(axis, 2, 1)])
    y = convolve(ndim - 2)(face, weights, None, 1, 0, 1, 2)
    return [_phases_of(part, others) for part in y.chunk(2, dim=1)]


def _phases_of(y: Tensor, doubled: Sequence[int]) -> Tensor:
    """Return (N, *shape, *phases, out) from the enlarged image (N, out, ...)."""
    y = y.movedim(1, -1)
    for axis in doubled:
        before, after = y.shape[: axis - 1], y.shape[axis:]
        y = y.reshape(*before, -1, 2, *after).movedim(axis, -2)
    return y


class _Differences(torch.autograd.Function):
    """Variance of the enlarged image, the differences of ``x`` along each set of axes, and the faces'.

    The last are, for each axis, ``−¼ e`` at its start and ``¼ e`` at its end, as channels one after the other.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, axes: Axes) -> tuple[Tensor, ...]:
        parts: dict[Axes, Tensor] = {(): x}
        for chosen in _subsets(axes)[1:]:
            base, axis = parts[chosen[:-1]], chosen[-1]
            n = base.shape[axis] - 1
            first, second = base.narrow(axis, 0, n), base.narrow(axis, 1, n)
            # torch takes a difference of cut images for no channels-last one where the batch is a single image
            parts[chosen] = torch.empty_like(first, memory_format=channels_last(x.ndim - 2))
            torch.sub(first, second, out=parts[chosen])
        pixels = x[:, 0].numel()
        shape = (-1, *[1] * (x.ndim - 2))
        mean = _sums(x) / pixels
        middle = mean.to(x.dtype)  # taken away first: the squares of a channel far from 0 would drown its variance
        squares = [_sums((x - middle.view(shape)).square()) / pixels - (mean - middle).square()]
        for chosen, part in [*parts.items()][1:]:
            squares.append(_LESS ** len(chosen) / pixels * _sums(part.square()))
        ctx.axes, ctx.pixels, ctx.shape = axes, pixels, shape
        ctx.save_for_backward(mean, *parts.values())
        faces = []
        for axis in axes:
            part = parts[axis,]
            first, last = part.narrow(axis, 0, 1), part.narrow(axis, part.shape[axis] - 1, 1)
            faces.append(torch.cat([first * -0.25, last * 0.25], dim=1))
        differences = [parts[chosen] for chosen in _subsets(axes)[1:]]
        return (torch.stack(squares).sum(0), *differences, *faces)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        of_variance, count = grads[0], len(ctx.axes)
        mean, *saved = ctx.saved_tensors
        of_parts = dict(zip(_subsets(ctx.axes)[1:], grads[1:-count], strict=True))
        for chosen, part in zip(_subsets(ctx.axes), saved, strict=True):
            factor = 2 * _LESS ** len(chosen) / ctx.pixels * of_variance
            base = of_parts[chosen] if chosen else (-factor * mean).to(part.dtype).view(ctx.shape)
            of_parts[chosen] = torch.addcmul(base, part, factor.to(part.dtype).view(ctx.shape))
        for axis, of_face in zip(ctx.axes, grads[-count:], strict=True):
            part = of_parts[axis,]
            first, last = of_face.chunk(2, dim=1)
            part.narrow(axis, 0, 1).sub_(first, alpha=0.25)
            part.narrow(axis, part.shape[axis] - 1, 1).add_(last, alpha=0.25)
        for chosen in _subsets(ctx.axes)[:0:-1]:
            base, axis = of_parts[chosen[:-1]], chosen[-1]
            n = base.shape[axis] - 1
            base.narrow(axis, 0, n).add_(of_parts[chosen])
            base.narrow(axis, 1, n).sub_(of_parts[chosen])
        return of_parts[()], None


def _sums(x: Tensor) -> Tensor:
    """Return the sum of each channel in float32 at least; rows come first, in the order in which they lie."""
    rows = x.movedim(1, -1).sum(dim=-2)
    rows = rows if rows.dtype == torch.float64 else rows.float()
    return rows.flatten(0, -2).sum(dim=0)


class _Sum(torch.autograd.Function):
    """The sum of the terms of all sets of axes, of more terms with all phases, and of the faces."""

    @staticmethod
    def forward(ctx: Any, axes: Axes, coarse: Sequence[int], faces: int, *tensors: Tensor) -> Tensor:
        subsets = _subsets(axes)
        terms, more = tensors[: len(subsets)], tensors[len(subsets) : len(tensors) - faces]
        y = terms[-1].clone() if not more else terms[-1] + more[0]
        for chosen, term in zip(subsets[-2::-1], terms[-2::-1], strict=True):
            for position, axis in enumerate(axes):
                term = term if axis in chosen else term.unsqueeze(1 + len(coarse) + position)
            y += term
        for place, face in zip(_places(axes, len(coarse)), tensors[len(tensors) - faces :], strict=True):
            y[place] += face
        ctx.axes, ctx.coarse, ctx.more = axes, tuple(coarse), len(more)
        return y.flatten(len(coarse), -2).movedim(-1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        axes, first = ctx.axes, 1 + len(ctx.coarse)
        grad = _unfolded(grad, ctx.coarse, axes)
        of_terms = {axes: grad}
        for chosen in _subsets(axes)[-2::-1]:
            added = next(axis for axis in axes if axis not in chosen)
            above = tuple(sorted((*chosen, added)))
            wide, phase = of_terms[above], first + above.index(added)
            of_terms[chosen] = wide.select(phase, 0) + wide.select(phase, 1)
        of_faces = [grad[place] for place in _places(axes, len(ctx.coarse))]
        return None, None, None, *[of_terms[chosen] for chosen in _subsets(axes)], *[grad] * ctx.more, *of_faces


def _unfolded(y: Tensor, coarse: Sequence[int], axes: Axes) -> Tensor:
    """Return (N, *coarse, *phases, C) from the phases along the last axis of (N, C, ...)."""
    return y.movedim(1, -1).reshape(len(y), *coarse, *[2] * len(axes), y.shape[1])


def _places(axes: Axes, ndim: int) -> list[tuple[Any, ...]]:
    """Return where each face lies in (N, *coarse, *phases, C): the ends of each axis, in its outer phase."""
    places = []
    for position, axis in enumerate(axes):
        for end in (0, 1):
            place: list[Any] = [slice(None)] * (1 + ndim + len(axes))
            place[axis - 1] = slice(-1, None) if end else slice(0, 1)
            place[1 + ndim + position] = end
            places.append(tuple(place))
    return places
