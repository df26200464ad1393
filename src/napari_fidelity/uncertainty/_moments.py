"""Mean and spread of images that come one after the other, without keeping them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Moments:
    """Number, mean and sum of squared deviations of images (Welford 1962, doi:10.1080/00401706.1962.10490022).

    Never changed in place, so that a step which was handed out keeps showing what it showed; holding on to one
    holds two images, whatever their number.

    Attributes
    ----------
    count
        How many images there were.
    mean
        Their mean, in float32.
    squares
        The sum of the squares of their deviations from it, in float32.
    """

    count: int
    mean: torch.Tensor
    squares: torch.Tensor

    @classmethod
    def of(cls, image: torch.Tensor) -> Moments:
        """Return those of a single image."""
        mean = image.detach().float()
        return cls(1, mean, mean.new_zeros(mean.shape))

    def add(self, image: torch.Tensor) -> Moments:
        """Return those with one more image of the same shape."""
        away = image.detach().float() - self.mean
        mean = self.mean + away / (self.count + 1)
        return Moments(self.count + 1, mean, self.squares.addcmul(away, image.detach().float() - mean))

    def std(self) -> torch.Tensor:
        """Return the standard deviation of a pixel (unbiased variance); 0 for a single image."""
        return (self.squares.clamp_min(0) / max(1, self.count - 1)).sqrt()
