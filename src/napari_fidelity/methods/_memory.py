"""How much memory a method will hold at once, before it begins.

A network is run on two small crops; what it keeps grows with the pixels. The factors over that were measured on
the CPU, as the largest resident memory of runs with EDSR and EnhanceNet, ×2 and ×4, gray and RGB, in float32 and
bfloat16: the estimates lie between 0.85 and 1.4 of it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

import torch

from napari_fidelity.core.errors import FidelityError
from napari_fidelity.denoisers.network import AT_ONCE, NetworkDenoiser, prepared
from napari_fidelity.methods._adaptation import SIDE
from napari_fidelity.methods._checkpointing import checkpointed
from napari_fidelity.methods._network import uses_bfloat16
from napari_fidelity.methods._zssr_gallery import FATHERS, MOST
from napari_fidelity.methods._zssr_run import STRIP
from napari_fidelity.methods._zssr_sizes import fold_of
from napari_fidelity.methods.calls import call_network
from napari_fidelity.methods.deep_prior import INPUTS
from napari_fidelity.methods.last_layer import MAX_ROWS, Pass, first_pass
from napari_fidelity.networks.zero_shot import ZeroShotNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fidelity.methods.base import Network
    from napari_fidelity.methods.deep_prior import DeepPrior
    from napari_fidelity.methods.deepred import DeepRED
    from napari_fidelity.methods.red import RED
    from napari_fidelity.methods.zssr import ZSSR

FLOATS = 10
"""Copies in float32 of the image in projections, scores and the conversion to intensities."""
_CROPS = (24, 40)  # pixels along an axis of the measurement's parts on which the need is measured
_BACKWARD = 2.1  # of features, gradients and scratch space over what is kept for the backward pass
_FORWARD = 2.7  # of a layer's input, output and scratch space over the largest layer, without gradients
_SOLVED = 2  # copies in float32 of what enters a last layer that is solved
_DESIGN = 3  # copies of the regression's matrix while it is gathered
_SCRATCH = 1.2  # of learning from fathers and sons, over what is kept


@dataclass(frozen=True)
class Footprint:
    """What a network holds for each pixel of its input, in bytes.

    Attributes
    ----------
    kept
        What a forward pass keeps for its backward pass.
    largest
        The largest part of that: one layer.
    image
        The image, in float32.
    features
        What enters the last layer, in float32; 0 where none can be solved.
    unknowns
        Of the closed form, per channel of the image.
    """

    kept: float
    largest: float
    image: float
    features: float = 0.0
    unknowns: int = 0

    def without_gradients(self, pixels: int) -> float:
        """Return the bytes of running the network on so many pixels."""
        return max(_FORWARD * self.largest, FLOATS * self.image) * pixels

    def with_gradients(self, pixels: int) -> float:
        """Return the bytes of a gradient step on so many pixels."""
        return max(_BACKWARD * self.kept, FLOATS * self.image) * pixels

    def network_alone(self, pixels: int, *, gradients: bool) -> float:
        """Return the bytes of running the network on so many pixels, whatever is done with its image."""
        return (_BACKWARD * self.kept if gradients else _FORWARD * self.largest) * pixels

    def closed_form(self, pixels: int, rows: int | None = None) -> float:
        """Return the bytes of solving the last layer for so many pixels, of which so many enter at a time."""
        rows = min(pixels if rows is None else rows, MAX_ROWS)
        return _SOLVED * self.features * pixels + _DESIGN * 4 * self.unknowns * rows


def footprint(run: Callable[[torch.Tensor], Pass], y: torch.Tensor) -> Footprint:
    """Return what a network holds per pixel.

    Parameters
    ----------
    run
        The network, differentiable.
    y
        A measurement ``(N, C, H, W)``, of which a corner is used.
    """
    crops = [y[:1, :, :size, :size] for size in _CROPS]
    (_, before), (result, after) = (kept_for_backward(run, crop) for crop in crops)
    pixels = [crop[:, 0].numel() for crop in crops]
    added = pixels[1] - pixels[0]
    if added and len(before) == len(after):
        # Weights are kept as well, whatever the size of the image: they are no part of the slope.
        grown = [(b - a) / added for a, b in zip(before, after, strict=True)]
    else:
        grown = [b / pixels[1] for b in after]
    features, unknowns = 0.0, 0
    if result.features is not None and result.layer is not None:
        features = 4 * result.features.numel() / pixels[1]
        height, width = result.layer.kernel_size
        unknowns = height * width * result.layer.in_channels + 1 + result.image.shape[1]
    image = 4 * result.image.numel() / pixels[1]
    return Footprint(sum(grown), max(grown, default=0.0), image, features, unknowns)


def footprint_of(
    model: Network | None, channels: int, *, bfloat16: bool = False, checkpoints: bool = False
) -> Footprint | None:
    """Return the footprint of a network on images of so many channels; ``None`` if it cannot be told.

    With ``checkpoints`` that of a backward pass for which the rest is computed again.
    """
    if model is None:
        return None
    if isinstance(model, torch.nn.Module) and model.training:
        model = copy.deepcopy(model).eval()  # a pass in training mode would change it
    own = next(iter(model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    device = torch.device("cpu") if own is None else own.device
    y = torch.full((1, channels, _CROPS[-1], _CROPS[-1]), 0.5, device=device)

    def run(z: torch.Tensor) -> Pass:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bfloat16):
            return first_pass(model, z) if isinstance(model, torch.nn.Module) else Pass(call_network(model, z))

    try:
        found = footprint(run, y)
        if not checkpoints or not isinstance(model, torch.nn.Module):
            return found
        with checkpointed(model) as inputs:
            beside = footprint(run, y).kept
    except FidelityError:
        return None  # one that takes no image of this size
    # twice as many calls as groups, for two crops; of the groups one at a time is there as a whole
    groups = inputs[len(inputs) // 2 :]
    if not groups:
        return found
    kept = beside + sum(groups) / y[:, 0].numel() + max(0.0, found.kept - beside) / len(groups)
    return replace(found, kept=min(found.kept, kept))


def network_memory(model: Network | None, shape: Sequence[int]) -> int:
    """Return the bytes of running a network once on a measurement ``(N, C, H, W)``."""
    found = footprint_of(model, shape[1])
    pixels = shape[0] * shape[2] * shape[3]
    return FLOATS * 4 * shape[1] * pixels if found is None else round(found.without_gradients(pixels))


def denoising_memory(options: RED | DeepRED, shape: Sequence[int], model: Network | None) -> int:
    """Return the bytes of denoising an image ``(N, C, *n)``, over and over; ``model`` if a network does it."""
    pixels = shape[0] * prod(shape[2:])
    copies = 4 * FLOATS * 2 * shape[1] * pixels  # classical denoisers work in double precision
    found, planes = _denoiser(options, shape, model)
    # a single plane goes through at once, however large it is
    at_once = min(planes * pixels, max(AT_ONCE, shape[-1] * shape[-2]))
    return copies + (0 if found is None else round(found.without_gradients(at_once)))


def adaptation_memory(options: RED, shape: Sequence[int], model: Network | None) -> int:
    """Return the bytes of adapting a denoising network to a plain image ``(N, C, H, W)``."""
    found, planes = _denoiser(options, shape, model)
    if found is None:
        return 0
    pixels = planes * shape[0] * min(shape[2], SIDE) * min(shape[3], SIDE)
    return round(found.with_gradients(pixels)) + 4 * weights_memory(model) + 4 * FLOATS * prod(shape)


def _denoiser(options: RED | DeepRED, shape: Sequence[int], model: Network | None) -> tuple[Footprint | None, int]:
    """Return what the denoising network holds for each pixel, and how many planes an image becomes."""
    denoiser = options.denoiser
    if model is None or not isinstance(denoiser, NetworkDenoiser):
        return None, 1
    run, fold = prepared(model, shape[1])
    device = next((p.device for p in model.parameters()), None) if isinstance(model, torch.nn.Module) else None
    bfloat16 = device is not None and uses_bfloat16(denoiser.precision, device)
    return footprint_of(run, 1 if fold else shape[1], bfloat16=bfloat16), shape[1] if fold else 1


def prior_memory(options: DeepPrior, shape: Sequence[int], device: torch.device) -> int:
    """Return the bytes of the iterations of untrained networks that make an image ``(N, C, *n)``."""
    spatial = tuple(shape[2:])
    bfloat16 = uses_bfloat16(options.precision, device)
    network = shape[0] * options.network.memory(spatial, bfloat16=bfloat16)
    channels = options.runs * INPUTS + FLOATS * shape[1]  # inputs of all networks; images, averages, ADMM
    snapshots = 2 * options.snapshots * shape[1]
    return network + 4 * shape[0] * prod(spatial) * (channels + snapshots)


def zero_shot_memory(options: ZSSR, shape: Sequence[int], image_shape: Sequence[int], device: torch.device) -> int:
    """Return the bytes of learning from a measurement ``(N, C, H, W)`` and making an image of it."""
    scale = [n / m for n, m in zip(image_shape[2:], shape[2:], strict=True)]
    fold = fold_of(options, (scale[0], scale[1]))
    network = ZeroShotNetwork(
        shape[1], torch.Generator(), width=options.width, depth=options.depth, fold=fold, residual=1.0
    )
    found = footprint_of(network, shape[1], bfloat16=uses_bfloat16(options.precision, device))
    assert found is not None  # it takes images of any size
    crops = options.batch * min(options.crop, shape[2]) * min(options.crop, shape[3])
    at_once = min(prod(image_shape[2:]), STRIP * prod(fold)) * shape[0]
    views = options.views if options.views > 1 else 0
    copies = FLOATS + views + 2 * options.snapshots
    pairs = 2 * 4 * (prod(shape) + min(MOST, prod(shape) * FATHERS) * (options.augmentation == "sizes"))
    held = max(found.with_gradients(crops), found.without_gradients(at_once))
    return round(_SCRATCH * (copies * 4 * prod(image_shape) + pairs + held))


def weights_memory(model: Network | None) -> int:
    """Return the bytes of a network's weights."""
    return sum(p.nbytes for p in model.parameters()) if isinstance(model, torch.nn.Module) else 0


def kept_for_backward(run: Callable[[torch.Tensor], Pass], y: torch.Tensor) -> tuple[Pass, list[int]]:
    """Run a network; return its pass, detached, and the bytes of each storage kept for the backward pass."""
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # itself, an output would keep the graph alive that keeps it

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = run(y)  # kept alive to the end, so that no storage is freed and counted again
    features = None if result.features is None else result.features.detach()
    return Pass(result.image.detach(), features, result.layer), [*kept.values()]
