"""The fathers of :class:`napari_fidelity.methods.ZSSR` as published: drawn anew for every gradient step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F

from napari_fidelity.methods._zssr_pairs import WHOLE, Pair

if TYPE_CHECKING:
    from collections.abc import Sequence

    from napari_fidelity.methods._zssr_pairs import Making, Source

_AS_IT_IS, _TURNED = 0.05, 0.45  # shares of fathers that are not mapped affinely, as published
_STRETCH, _SHEAR = 0.25, 0.1  # standard deviations of affine maps, as published
_LEAST_SIZE = 0.25  # of a drawn affine map, whose anisotropy has no bounds


class Warped:
    """Fathers that are drawn anew each time, as published: as they are, turned, or mapped affinely."""

    def __init__(self, making: Making, sources: Sequence[Source], rng: torch.Generator) -> None:
        self.making, self.sources, self.rng = making, sources, rng
        self.draw()  # raises what there is to say

    def residual(self) -> float:
        """Return the root mean square of what the bases lack, from one drawing."""
        pair = self.draw()
        return float((pair.father - pair.base).square().mean().sqrt())

    def draw(self) -> Pair:
        """Return a batch of fathers with their sons."""
        pairs = [self._one() for _ in range(self.making.options.batch)]
        return Pair(
            torch.cat([pair.father for pair in pairs]),
            torch.cat([pair.base for pair in pairs]),
            None if pairs[0].seen is None else torch.cat([p.seen for p in pairs if p.seen is not None]),
        )

    def _one(self) -> Pair:
        options = self.making.options
        chance = float(self._uniform(1))
        scaled = options.augmentation == "scaled"
        affine = chance >= _AS_IT_IS + _TURNED
        matrix, source = torch.eye(2, dtype=torch.float64), self.sources[0]
        if chance >= _AS_IT_IS:
            largest = self.sources[-1].size
            least = 0.75 if scaled else 0.5
            size = least + (largest - least) * float(self._uniform(1))
            source = next(s for s in self.sources if s.size > size - 1e-6)
            if affine:
                matrix = self._affine(size / source.size, scaled=scaled)
            if options.turns:
                matrix = matrix @ self._turn(quarter=not affine)
        return self.making.pair(*self._mapped(source, matrix, whole=not affine), self.rng)

    def _affine(self, size: float, *, scaled: bool) -> torch.Tensor:
        """Return the inverse of a random map: scaled, and where asked for stretched and sheared."""
        if scaled:
            return torch.eye(2, dtype=torch.float64) / size
        stretch, *shear = torch.randn(3, generator=self.rng, dtype=torch.float64).tolist()
        y, x = (max(_LEAST_SIZE, size + sign * _STRETCH * stretch / 2) for sign in (-1, 1))
        sheared = torch.tensor([[1.0, _SHEAR * shear[0]], [_SHEAR * shear[1], 1.0]], dtype=torch.float64)
        forward = sheared @ torch.diag(torch.tensor([y, x], dtype=torch.float64))
        inverse: torch.Tensor = torch.linalg.inv(forward)
        return inverse

    def _turn(self, *, quarter: bool) -> torch.Tensor:
        angle = float(self._uniform(1))
        angle = math.floor(4 * angle) * math.pi / 2 if quarter else 2 * math.pi * angle
        mirror = 1.0 if float(self._uniform(1)) < 0.5 else -1.0
        sine, cosine = math.sin(angle), math.cos(angle)
        return torch.tensor([[cosine, mirror * sine], [-sine, mirror * cosine]], dtype=torch.float64)

    def _mapped(
        self, source: Source, matrix: torch.Tensor, *, whole: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a crop of a source seen through a map, and what of it was seen."""
        shape = source.image.shape[2:]
        sizes = [min(self.making.options.crop, n) for n in shape]
        reach = matrix.abs() @ torch.tensor(sizes, dtype=torch.float64) / 2
        free = torch.tensor(shape, dtype=torch.float64) - 2 * reach
        centre = reach + self._uniform(2) * free.clamp_min(0) + free.clamp_max(0) / 2
        rows, columns = (torch.arange(n, dtype=torch.float64) + 0.5 - n / 2 for n in sizes)
        offsets = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)
        if whole:  # on the pixels themselves, so that nothing is interpolated
            centre = torch.stack(
                [torch.round(c + o) - o for c, o in zip(centre, matrix @ offsets[0, 0] - 0.5, strict=True)]
            )
        at = offsets @ matrix.T + centre
        grid = (2 * at / torch.tensor(shape, dtype=torch.float64) - 1).flip(-1)  # (x, y) in [−1, 1]
        image = self._sampled(source.image, grid, "nearest" if whole else "bicubic")
        if self.making.options.clip:
            image = image.clamp(0, 1)
        seen = None if source.seen is None else self._sampled(source.seen, grid, "bilinear")
        return image, None if seen is None else (seen > WHOLE).to(image)

    def _sampled(self, image: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
        number = int(torch.randint(len(image), (1,), generator=self.rng)) if len(image) > 1 else 0
        grid = grid.to(image)[None]
        part = image[number : number + 1]
        return F.grid_sample(part, grid, mode=mode, padding_mode="reflection", align_corners=False)

    def _uniform(self, count: int) -> torch.Tensor:
        return torch.rand(count, generator=self.rng, dtype=torch.float64)
