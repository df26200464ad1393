"""Procedural training images: nothing to download, no rights to clear.

Every function takes a ``numpy.random.Generator`` and returns a float32 array (C, H, W) in [0, 1].
Dead leaves (occluding shapes with power-law sizes) share the edge statistics of natural images:
Lee, Mumford, Huang, IJCV 2001, doi:10.1023/A:1011109015675; as training data for restoration:
Achddou, Gousseau, Ladjal, "Synthetic images as a regularity prior for image restoration neural
networks", SSVM 2021, doi:10.1007/978-3-030-75549-2_27.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

Image = NDArray[np.float32]
"""An image (C, H, W), or a plane (H, W) of one."""
_SUPER = 2  # everything is drawn twice as large and averaged down: anti-aliasing


def power_law_noise(rng: Generator, shape: tuple[int, int], exponent: float = 1.0) -> Image:
    """Return periodic noise (H, W) with spectrum ``1/f**exponent``, mean 0 and deviation 1."""
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None]
    f = np.hypot(fy, fx)
    f[0, 0] = np.inf
    noise = np.fft.irfft2(np.fft.rfft2(rng.standard_normal(shape)) * f**-exponent, s=shape)
    return np.asarray(noise / noise.std(), np.float32)


def dead_leaves(rng: Generator, size: tuple[int, int], n_channels: int = 3) -> Image:
    """Occluding textured shapes, radii distributed as ``r**-3``: natural edges at every scale."""
    h, w = (_SUPER * n for n in size)
    palette = _palette(rng, n_channels)
    tiles = [power_law_noise(rng, (h, w), e) for e in (0.0, 0.6, 1.2)]
    canvas = np.empty((n_channels, h, w), np.float32)
    canvas[:] = palette(rng)[:, None, None]
    r_min, r_max = np.exp(rng.uniform(np.log(3), np.log(50))), 0.4 * max(h, w)
    mean_area = np.pi * 2 * np.log(r_max / r_min) / (r_min**-2 - r_max**-2)
    for u in rng.random(int(3 * h * w / mean_area)):
        radius = (r_min**-2 + u * (r_max**-2 - r_min**-2)) ** -0.5
        _leaf(rng, canvas, float(radius), palette(rng), tiles)
    return _finish(rng, canvas)


def filaments(rng: Generator, size: tuple[int, int], n_channels: int = 3) -> Image:
    """Curved thin lines of varying width and brightness on a dark or bright ground."""
    h, w = (_SUPER * n for n in size)
    canvas = np.zeros((n_channels, h, w), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        layer = np.zeros((h, w), np.float32)
        for _ in range(int(rng.integers(20, 80))):
            n = int(rng.integers(200, 1200))
            angle = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, rng.uniform(0.002, 0.05), n))
            y = np.cumsum(np.sin(angle)) + rng.uniform(0, h)
            x = np.cumsum(np.cos(angle)) + rng.uniform(0, w)
            keep = (y >= 0) & (y < h) & (x >= 0) & (x < w)
            layer[y[keep].astype(int), x[keep].astype(int)] = rng.uniform(0.3, 1)
        sigma = rng.uniform(0.8, 2.5)
        layer = ndimage.gaussian_filter(layer, sigma) * (2.5 * sigma)
        canvas += _colour(rng, n_channels)[:, None, None] * layer
    canvas = np.clip(canvas, 0, 1)
    return _finish(rng, 1 - canvas if rng.random() < 0.3 else canvas)


def cells(rng: Generator, size: tuple[int, int], n_channels: int = 3) -> Image:
    """Textured nuclei with wavy outlines on a smooth ground, fluorescence- or stain-like."""
    h, w = (_SUPER * n for n in size)
    ground = 0.05 * power_law_noise(rng, (h, w), 1.5) + rng.uniform(0.05, 0.3)
    canvas = np.repeat(ground[None], n_channels, 0).astype(np.float32)
    tiles = [power_law_noise(rng, (h, w), e) for e in (0.6, 1.0, 1.5)]
    mean = rng.uniform(8, 50)
    colours = [_colour(rng, n_channels) for _ in range(3)]
    for _ in range(int(0.5 * h * w / (np.pi * mean**2)) + 1):
        colour = colours[rng.integers(3)] * rng.uniform(0.4, 1)
        _leaf(rng, canvas, float(mean * rng.uniform(0.6, 1.4)), colour, tiles, kinds=(0, 4))
    canvas = np.clip(canvas, 0, 1)
    return _finish(rng, 1 - canvas if rng.random() < 0.3 else canvas)


def gratings(rng: Generator, size: tuple[int, int], n_channels: int = 3) -> Image:
    """Patches of oriented stripes, squares and strokes with sharp or smooth profile: text-like."""
    h, w = (_SUPER * n for n in size)
    yy, xx = np.mgrid[:h, :w].astype(np.float32)
    region = power_law_noise(rng, (h, w), 2.0)
    label = np.digitize(region, np.quantile(region, [0.2, 0.4, 0.6, 0.8]))
    canvas = np.empty((n_channels, h, w), np.float32)
    palette = _palette(rng, n_channels)
    for k in range(5):
        angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(8), np.log(80)))
        bend = rng.uniform(0, 0.6) * power_law_noise(rng, (h, w), 2.0)
        phase = 2 * np.pi * (np.cos(angle) * xx + np.sin(angle) * yy) / period + bend
        wave = np.sin(phase)
        if rng.random() < 0.4:
            wave = wave * np.sin(2 * np.pi * (np.cos(angle) * yy - np.sin(angle) * xx) / period)
        wave = np.tanh(wave * np.exp(rng.uniform(0, 3))) if rng.random() < 0.7 else wave
        a, b = palette(rng)[:, None, None], palette(rng)[:, None, None]
        canvas = np.where(label == k, a + (b - a) * (0.5 + 0.5 * wave), canvas)
    return _finish(rng, np.clip(canvas, 0, 1).astype(np.float32))


KINDS: dict[str, Callable[[Generator, tuple[int, int], int], Image]] = {
    "dead_leaves": dead_leaves,
    "filaments": filaments,
    "cells": cells,
    "gratings": gratings,
}
"""Name → generator of procedural images."""


def _colour(rng: Generator, n: int) -> Image:
    """Draw a colour: free luminance, small chroma, as in photographs."""
    chroma = rng.laplace(0, 0.08, n)
    return np.asarray(np.clip(rng.beta(1.1, 1.3) + chroma - chroma.mean(), 0, 1), np.float32)


def _palette(rng: Generator, n: int) -> Callable[[Generator], Image]:
    """Choose a few base colours, to be drawn with small variations: neighbouring things look alike."""
    base = np.stack([_colour(rng, n) for _ in range(int(rng.integers(4, 24)))])
    spread = rng.uniform(0.02, 0.1)

    def draw(rng: Generator) -> Image:
        picked = base[rng.integers(len(base))] + rng.normal(0, spread, ()) + rng.normal(0, 0.02, n)
        return np.asarray(np.clip(picked, 0, 1), np.float32)

    return draw


def _leaf(
    rng: Generator,
    canvas: Image,
    radius: float,
    colour: Image,
    tiles: list[Image],
    kinds: tuple[int, ...] = (0, 0, 1, 1, 2, 3, 4),
) -> None:
    """Paint one shape at a random place over `canvas` (in place)."""
    _, h, w = canvas.shape
    cy, cx = rng.uniform(0, h), rng.uniform(0, w)
    y0, y1 = max(0, int(cy - radius)), min(h, int(cy + radius) + 1)
    x0, x1 = max(0, int(cx - radius)), min(w, int(cx + radius) + 1)
    yy = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - cy) / radius)[:, None]
    xx = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - cx) / radius)[None]
    angle = rng.uniform(0, np.pi)
    u, v = np.cos(angle) * xx + np.sin(angle) * yy, np.cos(angle) * yy - np.sin(angle) * xx
    mask = _shape(rng, kinds[rng.integers(len(kinds))], u, v)
    fill = np.broadcast_to(colour[:, None, None], (len(colour), *mask.shape))
    if radius > 4:
        fill = fill + _texture(rng, u, radius, tiles[rng.integers(len(tiles))][y0:y1, x0:x1])
    np.copyto(canvas[:, y0:y1, x0:x1], np.clip(fill, 0, 1), where=mask)


def _shape(rng: Generator, kind: int, u: Image, v: Image) -> NDArray[np.bool_]:
    """Inside of a shape in the unit disk: ellipse, box, polygon, ring or wavy blob."""
    aspect = np.exp(rng.uniform(np.log(0.08), 0)) if kind == 1 else rng.uniform(0.4, 1)
    inside: NDArray[np.bool_]
    if kind == 1:
        inside = (np.abs(u) < 0.95) & (np.abs(v) < 0.95 * aspect)
    elif kind == 2:
        turns = np.cumsum(rng.uniform(0.6, 1.4, int(rng.integers(3, 7))))
        turns *= 2 * np.pi / turns[-1]
        inside = np.ones(u.shape, bool)
        for t in turns:
            inside &= np.cos(t) * u + np.sin(t) * v < 0.5
    elif kind == 3:
        rho = np.hypot(u, v / aspect)
        inside = (rho < 1) & (rho > rng.uniform(0.5, 0.9))
    elif kind == 4:
        theta = np.arctan2(v, u)
        edge = 0.8 + rng.uniform(0, 0.2) * np.cos(rng.integers(2, 7) * theta + rng.uniform(0, 6))
        inside = np.hypot(u, v / aspect) < edge
    else:
        inside = u**2 + (v / aspect) ** 2 < 1
    return inside


def _texture(rng: Generator, u: Image, radius: float, tile: Image) -> Image | float:
    """Variation inside a shape: none, shading, stripes or power-law noise."""
    kind = rng.random()
    if kind < 0.3:
        return 0.0
    shade = rng.uniform(-0.25, 0.25) * u
    if kind < 0.55:
        return np.asarray(shade, np.float32)
    if kind < 0.68:
        period = np.exp(rng.uniform(np.log(6), np.log(60)))
        stripes = np.sin(2 * np.pi * radius * u / period + rng.uniform(0, 6))
        stripes = np.tanh(stripes * np.exp(rng.uniform(-1, 2.5)))
        return np.asarray(rng.uniform(0.03, 0.35) * stripes, np.float32)
    return np.asarray(shade + np.exp(rng.uniform(np.log(0.01), np.log(0.15))) * tile, np.float32)


def _finish(rng: Generator, canvas: Image) -> Image:
    """Average down to the final size; now and then a little out of focus."""
    c, h, w = canvas.shape
    image = canvas.reshape(c, h // _SUPER, _SUPER, w // _SUPER, _SUPER).mean((2, 4))
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, (0, *2 * [rng.uniform(0.3, 1.2)]))
    return np.asarray(np.clip(image, 0, 1), np.float32)
