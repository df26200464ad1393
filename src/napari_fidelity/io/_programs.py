"""Networks in files that are programs: TorchScript and ``torch.export``. Opened only by those who trust them."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from napari_fidelity.core.errors import ArchitectureError
from napari_fidelity.io._formats import demand_trust, opened
from napari_fidelity.networks.foreign import ForeignNetwork
from napari_fidelity.networks.info import ModelInfo
from napari_fidelity.networks.probe import examined
from napari_fidelity.networks.sizes import found_shapes, found_sizes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from napari_fidelity.core.trust import Trust


def load_torchscript(path: Path, content: bytes, trust: Trust) -> ForeignNetwork:
    """Load a TorchScript program, with channels, scale and sizes as trials find them.

    Raises
    ------
    UntrustedModelError
        Without ``trust``.
    ModelFileError
        If the file is damaged.
    ArchitectureError
        If the program does not make an image of one.
    """
    demand_trust(
        path,
        content,
        trust,
        what="a TorchScript program",
        runs="its code runs whenever the model is used, and is read by a loader that may be attacked",
    )
    program = trusted_torchscript(content, path.name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _found(program, "torchscript", path)


def trusted_torchscript(content: bytes, name: str) -> nn.Module:
    """Return a TorchScript program whose code may run.

    Raises
    ------
    ModelFileError
        If it is damaged.
    """
    with warnings.catch_warnings():  # of torch, that the format has a successor
        warnings.simplefilter("ignore")
        load: Any = torch.jit.load
        module: nn.Module = opened(lambda: load(io.BytesIO(content), map_location="cpu"), name)
    return module


def load_exported(path: Path, content: bytes, trust: Trust) -> ForeignNetwork:
    """Load a program that ``torch.export`` wrote; see :func:`load_torchscript`.

    One that was exported for images of one size takes these and smaller ones, which are padded.
    """
    demand_trust(
        path,
        content,
        trust,
        what="an exported program (torch.export)",
        runs="its code runs whenever the model is used, and objects in it may run theirs when it is opened",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exported = opened(lambda: torch.export.load(io.BytesIO(content)), path.name)
        shape = _input_shape(exported, path.name)
        module = _Exported(exported.module())
        fixed = [size for size in shape[2:] if isinstance(size, int)]
        if not fixed:
            return _found(module, "exported", path)
        return _of_one_size(module, shape, path)


def _found(module: nn.Module, format: str, path: Path) -> ForeignNetwork:
    found = found_sizes(module)
    if found is None:
        raise _refused(path.name, found_shapes(module))
    channels, scale, multiple, smallest = found
    info = _info(module, format, scale, channels)
    network = ForeignNetwork(
        module, scale=scale, n_channels=channels, info=info, size_multiple=multiple, smallest=smallest
    )
    return examined(network)


def _of_one_size(module: _Exported, shape: Sequence[Any], path: Path) -> ForeignNetwork:
    """Return a network of images of a fixed size."""
    channels, height, width = shape[1:]
    if not (isinstance(height, int) and height == width):
        raise ArchitectureError(
            f"'{path.name}' was exported for images of {width} × {height} pixels alone",
            do="Export it with dynamic shapes (torch.export.Dim), or for square images",
        )
    with torch.no_grad():
        output = opened(lambda: module(torch.full((1, channels, height, width), 0.5)), path.name)
    scale = output.shape[-1] // width if isinstance(output, Tensor) and output.ndim == 4 else 0
    if not scale or tuple(output.shape) != (1, channels, scale * height, scale * width):
        made = tuple(getattr(output, "shape", ()))
        raise _refused(path.name, ((1, channels, height, width), made))
    module.size = height
    info = _info(module, "exported", scale, channels)
    return examined(
        ForeignNetwork(module, scale=scale, n_channels=channels, info=info, smallest=height, square=True)
    )


def _refused(name: str, shapes: tuple[tuple[int, ...], tuple[int, ...]] | None) -> ArchitectureError:
    """Return the error for a program, with the shapes of an image it takes and of what it makes of that.

    These are ``None`` where no image was found that it takes.
    """
    if shapes is None:
        return ArchitectureError(
            f"'{name}' takes no image (N, C, H, W) of 1 to 8 channels and of any size tried",
            do="Export the network alone: one image in, one image out, floats from 0 to 1",
        )
    taken, made = shapes
    found = f"an output of shape {made} from an image of shape {taken}"
    scale = made[-1] // taken[-1] if len(made) == 4 else 0
    if not scale or made[2:] != tuple(scale * size for size in taken[2:]):
        return ArchitectureError(
            f"'{name}' makes no image (N, C, scale·H, scale·W) of an image",
            found=found,
            do="Export the network alone: one image in, one image out, as large or a whole number of times larger",
        )
    if made[1] != taken[1]:
        return ArchitectureError(
            f"'{name}' takes images of {_channels(taken[1])} and gives images of {_channels(made[1])}, ×{scale}: "
            "what it makes cannot be compared with the measurement, which has the channels that the network takes",
            found=found,
            do="Use a network that gives as many channels as it takes",
        )
    return ArchitectureError(
        f"'{name}' takes and gives images of {_channels(taken[1])}, ×{scale}; programs for images of any size are "
        "opened for gray images (1 channel) and RGB images (3) alone",
        found=found,
        do="Export a network for 1 or 3 channels, through which other images go channel by channel; or register "
        f"this one from Python, for images of {_channels(taken[1])}: nf.register_model(name, network, "
        f"scale={scale}, n_channels={taken[1]})",
    )


def _channels(count: int) -> str:
    return "1 channel" if count == 1 else f"{count} channels"


def _info(module: nn.Module, format: str, scale: int, channels: int) -> ModelInfo:
    name = {"torchscript": "TorchScript", "exported": "Exported program"}[format]
    count = sum(p.numel() for p in module.parameters())
    return ModelInfo("", name, scale, channels, count, format=format)


def _input_shape(exported: Any, name: str) -> Sequence[Any]:
    """Return the shape ``(N, C, H, W)`` of the program's only input; sizes that may differ are no integers."""
    wanted = exported.graph_signature.user_inputs
    inputs = [node for node in exported.graph.nodes if node.op == "placeholder" and node.name in wanted]
    shapes: list[Any] = [getattr(node.meta.get("val"), "shape", ()) for node in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or not isinstance(shapes[0][1], int):
        raise ArchitectureError(
            f"'{name}' does not take one image (N, C, H, W) and nothing else",
            found=f"{len(wanted)} inputs: {', '.join(str(tuple(shape)) for shape in shapes)}",
            do="Export the network with one image as its only input",
        )
    shape: Sequence[Any] = shapes[0]
    return shape


class _Exported(nn.Module):
    """An exported program as a module: it has one mode only, and may be for images of one size.

    Attributes
    ----------
    size
        Width and height, where these are fixed.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program, self.size = program, 0

    def forward(self, y: Tensor) -> Tensor:
        if self.size and tuple(y.shape[2:]) != (self.size, self.size):
            raise ArchitectureError(
                f"This program was exported for images of up to {self.size} × {self.size} pixels",
                found=f"{y.shape[3]} × {y.shape[2]} pixels",
                do="Export it with dynamic shapes (torch.export.Dim), or work in tiles of that size",
            )
        try:
            output: Tensor = self.program(y)
            return output
        except AssertionError as error:  # the guards of its export
            raise ArchitectureError(
                "The exported program does not take such an image", found=f"{tuple(y.shape)}: {error}"
            ) from error

    def train(self, mode: bool = True) -> Self:
        """Do nothing: the mode was fixed when the program was exported."""
        return self
