"""Networks that are never trained: their structure alone is the prior of a reconstruction.

The declarations only; torch is loaded when one is built.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_args

from pydantic import Field

from napari_fidelity.core.errors import ShapeError
from napari_fidelity.core.options import Options
from napari_fidelity.core.spec import parse_declared, write_one

if TYPE_CHECKING:
    import torch

    from napari_fidelity.networks._untrained_module import UntrainedModule

_PLANAR_WIDTH = 64  # features: half the papers' number, at a third of the time
_VOLUME_WIDTH = 32  # a volume has many more voxels, and a 3 × 3 × 3 kernel three times the weights


class Untrained(Options, ABC):
    """Declares a network ``z → image`` with random weights, whose output is fitted to one measurement."""

    kind: str
    title: ClassVar[str]
    """Words for menus and tables."""
    held: ClassVar[Mapping[tuple[int, bool], float]]
    """Values per pixel and feature that a gradient step holds, by number of axes and whether sizes are even."""
    width: int | None = Field(
        None, ge=1, le=1024, description="Features of each layer; left out, 64 for images and 32 for volumes."
    )

    def build(
        self, in_channels: int, out_channels: int, shape: Sequence[int], rng: torch.Generator
    ) -> UntrainedModule:
        """Return the network for images of one size, with fresh weights on the CPU.

        Parameters
        ----------
        in_channels
            Channels of the input ``z``.
        out_channels
            Channels of the image, 1 or more.
        shape
            Size of the image along each axis: 2 or 3 numbers, each 1 or more.
        rng
            Source of the weights, on the CPU; nothing else random is used.

        Raises
        ------
        ShapeError
            If a number of channels or pixels is not positive, or the image has neither 2 nor 3 axes.
        """
        sizes = tuple(int(n) for n in shape)
        if len(sizes) not in (2, 3) or min(sizes) < 1:
            raise ShapeError("An untrained network makes images of 2 or 3 axes", found=str(tuple(shape)))
        if min(in_channels, out_channels) < 1:
            raise ShapeError(
                "An untrained network needs at least one channel", found=f"{in_channels} → {out_channels}"
            )
        return self._build(int(in_channels), int(out_channels), sizes, rng)

    @abstractmethod
    def _build(
        self, in_channels: int, out_channels: int, shape: tuple[int, ...], rng: torch.Generator
    ) -> UntrainedModule: ...

    def memory(self, shape: Sequence[int], *, bfloat16: bool = False) -> int:
        """Return the bytes that one forward and backward pass hold at most on the CPU.

        An input of 32 channels included; measured as the growth of resident memory, and within a fifth of it.

        Parameters
        ----------
        shape
            Size of the image along its 2 or 3 axes.
        bfloat16
            Whether the convolutions run in bfloat16.
        """
        held = self.held[len(shape), all(n % 2 == 0 for n in shape)]
        return round(held * (2 if bfloat16 else 4) * self.features(len(shape)) * math.prod(shape))

    def features(self, ndim: int) -> int:
        """Return the number of features of each layer for images of so many axes."""
        return self.width or (_PLANAR_WIDTH if ndim == 2 else _VOLUME_WIDTH)


class Skip(Untrained):
    """Encoder and decoder with skip connections (Ulyanov, Vedaldi, Lempitsky 2018, doi:10.1109/CVPR.2018.00984).

    With the settings that Mataev 2019 (arXiv:1903.10176) takes for all tasks. See
    :class:`napari_fidelity.networks.skip.SkipNetwork`.
    """

    kind: Literal["skip"] = "skip"
    title: ClassVar[str] = "skip network"
    held: ClassVar[Mapping[tuple[int, bool], float]] = {
        (2, True): 14,
        (2, False): 18,
        (3, True): 17,
        (3, False): 21,
    }
    scales: int = Field(5, ge=1, le=10, description="How often the image is halved at most.")
    skip: int = Field(4, ge=0, le=256, description="Features of each skip connection; 0 leaves them out.")

    def _build(
        self, in_channels: int, out_channels: int, shape: tuple[int, ...], rng: torch.Generator
    ) -> UntrainedModule:
        from napari_fidelity.networks.skip import SkipNetwork

        return SkipNetwork(
            in_channels,
            out_channels,
            shape,
            rng,
            width=self.features(len(shape)),
            scales=self.scales,
            skip=self.skip,
        )


class DeepDecoder(Untrained):
    """Decoder alone, without spatial convolutions (Heckel and Hand 2019, arXiv:1810.03982).

    It has few weights and fits noise late. See :class:`napari_fidelity.networks.deep_decoder.DeepDecoderNetwork`.
    """

    kind: Literal["deep_decoder"] = "deep_decoder"
    title: ClassVar[str] = "deep decoder"
    held: ClassVar[Mapping[tuple[int, bool], float]] = {
        (2, True): 8,
        (2, False): 9,
        (3, True): 9,
        (3, False): 10,
    }
    scales: int = Field(6, ge=1, le=10, description="How often the coarse input is doubled at most.")

    def _build(
        self, in_channels: int, out_channels: int, shape: tuple[int, ...], rng: torch.Generator
    ) -> UntrainedModule:
        from napari_fidelity.networks.deep_decoder import DeepDecoderNetwork

        return DeepDecoderNetwork(
            in_channels, out_channels, shape, rng, width=self.features(len(shape)), scales=self.scales
        )


# The list of untrained networks: a new one is added here.
_Single = Skip | DeepDecoder

AnyUntrained = Annotated[_Single, Field(discriminator="kind")]
"""Any untrained network as a field of options, told apart by ``kind``."""

UNTRAINED: tuple[type[Untrained], ...] = get_args(_Single)
"""Every declaration of an untrained network."""


def parse_untrained(spec: str | Mapping[str, Any] | Untrained) -> Untrained:
    """Return the network that a text (``skip:width=64``) or a table of plain values describes.

    Raises
    ------
    OptionError
        If the kind or an option is unknown, or a value is out of range; the message lists what there is.
    """
    return parse_declared(spec, Untrained, UNTRAINED, "untrained network")  # type: ignore[type-abstract]


def describe(network: Untrained) -> str:
    """Return the text that :func:`parse_untrained` reads this network from."""
    return write_one(network)
