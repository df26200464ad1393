"""Dropout at test time in networks that were trained without it, by hooks: neither file nor weights change.

Lucas et al. 2020 (arXiv:1912.12879), section V-B: dropout between the residual blocks, p = 0.0005.
"""

from __future__ import annotations

import math
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from napari_fidelity.core.errors import ArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

Place = Literal["blocks", "convolutions"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LEARNING = (*_CONVOLUTIONS, nn.Linear)


@contextmanager
def dropout(places: list[nn.Module], p: float, rng: torch.Generator) -> Iterator[None]:
    """Drop elements of what some modules of a network return, as long as the context lasts.

    Each element is set to 0 with probability ``p`` independently of all others, and the rest divided by ``1 − p``,
    so that the mean stays. Not meant for gradients. Hooks belong to the module, not to a thread: nobody else may
    run the network meanwhile.

    Parameters
    ----------
    places
        The modules, such as :func:`places_of` finds them.
    p
        Probability, at least 0 and below 1.
    rng
        Source of randomness on the CPU, for networks on any device.
    """

    def hook(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        if isinstance(output, tuple | list) and output and isinstance(output[0], torch.Tensor):
            return type(output)([dropped(output[0], inputs, p, rng), *output[1:]])
        return dropped(output, inputs, p, rng) if isinstance(output, torch.Tensor) else output

    hooks = [module.register_forward_hook(hook) for module in places]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def dropped(z: Tensor, inputs: tuple[Any, ...], p: float, rng: torch.Generator) -> Tensor:
    """Return features after dropout; they are overwritten unless they share memory with the inputs.

    With small ``p`` hardly anything is dropped: instead of a mask as large as the features, a Poisson number of
    positions is drawn, each uniformly. With rate ``−ln(1 − p)`` for each element, every one of them is hit with
    probability ``p``, independently of the others.
    """
    if not z.is_floating_point():
        return z
    own = z.untyped_storage().data_ptr()
    shared = any(isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() == own for x in inputs)
    if shared or not _is_dense(z):
        z = z.clone(memory_format=torch.preserve_format if _is_dense(z) else torch.contiguous_format)
    flat = z.as_strided((z.numel(),), (1,), z.storage_offset())  # in the order of memory, whatever that is
    rate = torch.tensor(-math.log1p(-p) * z.numel(), dtype=torch.float64)
    number = int(torch.poisson(rate, generator=rng))
    positions = torch.randint(z.numel(), (number,), generator=rng)
    flat.mul_(1 / (1 - p)).index_fill_(0, positions.to(z.device), 0)
    return z


def _is_dense(z: Tensor) -> bool:
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    return z.is_contiguous() or (z.ndim in formats and z.is_contiguous(memory_format=formats[z.ndim]))


def places_of(network: nn.Module, place: Place, run: Callable[[], object]) -> list[nn.Module]:
    """Return the modules of a network behind which dropout belongs.

    Parameters
    ----------
    network
        Any network.
    place
        ``"blocks"``: behind each residual block; where there are none to be found, as ``"convolutions"``: behind
        each convolution but the one that runs last.
    run
        Runs the network once; called only where the order of the convolutions matters.

    Raises
    ------
    ArchitectureError
        If there is no such place.
    """
    found = residual_blocks(network) if place == "blocks" else []
    found = found or _convolutions(network, run)
    if not found:
        raise ArchitectureError(
            f"{type(network).__name__} has no place for dropout",
            found="neither residual blocks nor a convolution before the last one",
            do="Use an ensemble over views, or the bootstrap, which look at the network from outside",
        )
    return found


def residual_blocks(network: nn.Module) -> list[nn.Module]:
    """Return the residual blocks of a network.

    Blocks of our own architectures say so (``is_residual_block``). In a foreign network they are the modules of
    one class that lie side by side in a ``ModuleList`` or ``Sequential`` and hold layers with weights; of several
    such classes, the one with the most members, and of blocks within blocks the outer ones.
    """
    own = [module for module in network.modules() if getattr(module, "is_residual_block", False)]
    if own:
        return own
    groups: dict[type[nn.Module], list[nn.Module]] = defaultdict(list)
    _collect(network, groups)
    return max(groups.values(), key=len, default=[])


def _collect(module: nn.Module, groups: dict[type[nn.Module], list[nn.Module]]) -> None:
    inside: set[int] = set()
    if isinstance(module, nn.ModuleList | nn.Sequential):
        classes: dict[type[nn.Module], list[nn.Module]] = defaultdict(list)
        for child in module.children():
            if _is_composite(child):
                classes[type(child)].append(child)
        for kind, members in classes.items():
            if len(members) > 1:
                groups[kind] += members
                inside |= {id(member) for member in members}
    for child in module.children():
        if id(child) not in inside:
            _collect(child, groups)


def _is_composite(module: nn.Module) -> bool:
    """Tell whether a module is made of others, some of which have weights to learn; bare containers are not."""
    if type(module) in (nn.Sequential, nn.ModuleList) or isinstance(module, _LEARNING):
        return False
    return any(isinstance(part, _LEARNING) for part in module.modules())


def _convolutions(network: nn.Module, run: Callable[[], object]) -> list[nn.Module]:
    """Return the convolutions of a network but the one that runs last."""
    layers = [module for module in network.modules() if isinstance(module, _CONVOLUTIONS)]
    ran: list[nn.Module] = []
    hooks = [layer.register_forward_pre_hook(lambda layer, _: ran.append(layer)) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()
    return [layer for layer in layers if ran and layer in ran and layer is not ran[-1]]
