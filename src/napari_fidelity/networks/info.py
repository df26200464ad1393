"""What is known of a trained network. Imports no torch: model lists are made without it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMATS = {
    "safetensors": "safetensors, with a description in its header",
    "weights": "weights alone, recognised by their names",
    "spandrel": "weights alone, recognised by spandrel",
    "torchscript": "TorchScript program",
    "exported": "exported program (torch.export)",
    "bioimageio": "bioimage.io package",
    "deepinv": "weights of a network of deepinv",
    "module": "a network given from Python",
}
"""What each :attr:`ModelInfo.format` is, in words."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What is known of a trained network; texts are empty where nothing is known.

    Attributes
    ----------
    id
        Name of the model: a bundled id or the name of its file.
    architecture
        Name in the registry.
    scale
        Factor by which width and height grow.
    n_channels
        Channels of the input and of the output image.
    n_parameters
        Number of trained values.
    value_range
        Lowest and highest nominal intensity of input and output.
    sha256
        Hash of the file the weights came from, as hexadecimal digits.
    licence
        Licence of the weights.
    trained_for
        The degradation the network was trained to undo.
    source
        Where the weights come from, with the work to cite.
    frames
        Consecutive frames of a video that one restored frame is made from; 1 for single images.
    size_multiple, smallest
        Width and height, in pixels, are padded to multiples of the one and to the other at least. The network
        pads by itself and crops its output.
    format
        How the file holds the network, one of :data:`FORMATS`; empty for none.
    untrainable
        Why the network cannot be fine-tuned; empty if it can.
    random_numbers
        In words, whether the network draws random numbers that results depend on; empty if it draws none.
    card
        Everything else the file says of its making: data, seed, steps, numbers.
    """

    id: str
    architecture: str
    scale: int
    n_channels: int
    n_parameters: int
    value_range: tuple[float, float] = (0.0, 1.0)
    sha256: str = ""
    licence: str = ""
    trained_for: str = ""
    source: str = ""
    frames: int = 1
    size_multiple: int = 1
    smallest: int = 1
    format: str = ""
    untrainable: str = ""
    random_numbers: str = ""
    card: Mapping[str, Any] = field(default_factory=dict, hash=False)
