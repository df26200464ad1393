"""What a network of unknown make can do, found by running it on a small random image."""

from __future__ import annotations

import copy
import logging
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import ArchitectureError, FidelityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_fidelity.networks.foreign import ForeignNetwork

log = logging.getLogger(__name__)

_SIDE = 16  # pixels, more where the network asks for it
_LEVEL = 0.1  # of the noise, for networks that are told it
_CHANGE = 0.05  # of a last layer's weights, relative to their size
_SAME = 1e-3  # relative to the change of the output
_FOUND = ("info", "one_by_one", "same_numbers", "last_layer_name", "takes_channels_last")  # of a network

SAME_NUMBERS = "it draws some, and is given the same ones each time: results replay"
"""Of a network that draws random numbers of torch."""
OTHER_NUMBERS = "it draws others each time, out of reach of any seed: results do not replay exactly"
"""Of one that has its own source of them."""


def examined(network: ForeignNetwork) -> ForeignNetwork:
    """Return the network with what a run forth and back tells of it: whether it can learn, and its last layer.

    One that draws random numbers is given the same ones from then on; the log warns of one that still does not
    make the same of an image twice. Weights, gradients, mode and everybody's random numbers are left as they were,
    and so is what the network keeps of its runs: these are a copy's. The cost is that of a few runs on the
    smallest image the network takes.

    Raises
    ------
    ArchitectureError
        If it cannot be run at all, or makes NaN, infinity or complex numbers of an image in [0, 1].
    """
    tried = _copied(network)
    _examine(tried)
    for name in _FOUND:
        setattr(network, name, getattr(tried, name))
    return network


def _copied(network: ForeignNetwork) -> ForeignNetwork:
    """Return a copy; the network itself where it cannot be copied, which is said when it has to be."""
    try:
        with torch.no_grad():  # the copy of a TorchScript program would hang on the original's weights else
            return copy.deepcopy(network)
    except Exception as error:  # somebody else's code: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        return network


def _examine(network: ForeignNetwork) -> None:
    y = _small_image(network)
    with _undisturbed(network):
        _check_finite(network, y)
        numbers = _random_numbers(network, y)
        network.one_by_one = network.frames == 1 and not _takes_batches(network, y)
        reason = _obstacle(network, y)
        network.info = replace(network.info, untrainable=reason, random_numbers=numbers)
        network.last_layer_name = None if reason else _last_layer(network, y)
        network.takes_channels_last = not reason and _takes_channels_last(network, y)


@torch.no_grad()
def _check_finite(network: ForeignNetwork, y: Tensor) -> None:
    output = _run(network, y)
    check_real(output, f"The {network.info.architecture} network")
    wrong = {"NaN": output.isnan(), "infinite": output.isinf()}
    counts = [f"{int(of.sum())} values {name}" for name, of in wrong.items() if bool(of.any())]
    if counts:
        raise ArchitectureError(
            f"The {network.info.architecture} network makes no finite image of a small random one in [0, 1]",
            found=f"{' and '.join(counts)}, of {output.numel()}",
            do="Save it again from where it works, in float32: it may have been trained or saved in a precision "
            "that does not hold its values",
        )


def check_real(output: Tensor, what: str) -> None:
    """Refuse complex numbers, of which arithmetic with images would drop the imaginary part.

    Raises
    ------
    ArchitectureError
        If the output has some.
    """
    if output.is_complex():
        raise ArchitectureError(
            f"{what} makes complex numbers, and an image has real ones",
            found=str(output.dtype).removeprefix("torch."),
            do="Let it return the real part or the magnitude, whichever is the image",
        )


def _random_numbers(network: ForeignNetwork, y: Tensor) -> str:
    """Return in words whether the network draws random numbers, and let it have the same ones each time if so."""
    if not _differs(network, y):
        return ""
    network.same_numbers = True
    if not _differs(network, y):
        return SAME_NUMBERS
    log.warning(
        "the %s network does not make the same of an image twice: %s", network.info.architecture, OTHER_NUMBERS
    )
    return OTHER_NUMBERS


@torch.no_grad()
def _differs(network: ForeignNetwork, y: Tensor) -> bool:
    """Tell whether two runs of a network on the same image differ."""
    first = _run(network, y)
    torch.rand(1)  # another state of the generator, whatever the network draws from it
    return not torch.allclose(first, _run(network, y), atol=1e-6, equal_nan=True)


def _small_image(network: ForeignNetwork) -> Tensor:
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    size = network.padded_size(_SIDE, _SIDE)
    return torch.rand(1, network.n_channels, *size, generator=torch.Generator().manual_seed(0)).to(device)


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Let every parameter have gradients for a while, in evaluation mode, without touching random numbers."""
    training = network.training
    wanted = [(p, p.requires_grad) for p in network.parameters() if p.is_floating_point()]
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            network.eval()
            for parameter, _ in wanted:
                parameter.requires_grad_(True)
            yield
        finally:
            network.train(training)
            for parameter, had in wanted:
                parameter.requires_grad_(had)


@torch.no_grad()
def _takes_batches(network: ForeignNetwork, y: Tensor) -> bool:
    """Tell whether two images at once give what each of them gives alone."""
    alone = _run(network, y)
    try:
        together = _applied(network, torch.cat([y, y.flip(-1)]))[:1]
    except Exception as error:  # somebody else's code: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        return False
    return torch.allclose(together, alone, rtol=1e-3, atol=1e-4, equal_nan=True)


def _obstacle(network: nn.Module, y: Tensor) -> str:
    """Return why the network cannot be fine-tuned, or ``""``."""
    parameters = [p for p in network.parameters() if p.is_floating_point()]
    if not parameters:
        return "it holds no parameters: there is nothing to learn, or its weights were frozen into constants"
    output = _run(network, y)
    if not output.requires_grad:
        return _cut_off(network, y, output)
    try:
        found = torch.autograd.grad(output.square().mean(), parameters, allow_unused=True)
    except (Exception, SystemExit) as error:  # somebody else's code: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        return f"its backward pass fails: {_first_line(error)}"
    gradients = [gradient for gradient in found if gradient is not None]
    if not all(bool(gradient.isfinite().all()) for gradient in gradients):
        return "its gradients for a small random image are not finite"
    if not any(bool(gradient.any()) for gradient in gradients):
        return "no gradient reaches its weights"
    return ""


def _cut_off(network: nn.Module, y: Tensor, output: Tensor) -> str:
    """Return why no gradient leads from the output to the network's weights."""
    if not output.is_floating_point():
        return f"it makes whole numbers ({str(output.dtype).removeprefix('torch.')}), which have no gradients"
    try:
        passes = _run(network, y.clone().requires_grad_()).requires_grad
    except FidelityError:  # NumPy, for one, takes no tensor that has gradients
        passes = False
    if passes:
        return "no gradient reaches its weights: its output does not depend on them, or they are detached"
    return (
        "its output is cut off from its weights: by no_grad, detach or NumPy inside, or because it is made by "
        "comparisons, such as those of a threshold, which have no gradients"
    )


def _takes_channels_last(network: ForeignNetwork, y: Tensor) -> bool:
    """Tell whether the network does the same, and learns, with channels last in memory."""
    parameters = [p for p in network.parameters() if p.is_floating_point()]
    with torch.no_grad():
        expected = _applied(network, y)
    network.takes_channels_last = True
    try:
        network.to(memory_format=torch.channels_last)
        output = _applied(network, y.contiguous(memory_format=torch.channels_last))
        torch.autograd.grad(output.square().mean(), parameters, allow_unused=True)
        return torch.allclose(output, expected, rtol=1e-3, atol=1e-4)
    except RuntimeError as error:  # views that need another layout, weights of more than four axes
        if is_out_of_memory(error):
            raise
        return False
    finally:
        network.to(memory_format=torch.contiguous_format)


def _applied(network: nn.Module, y: Tensor) -> Tensor:
    """Return the network's output; one that takes the noise level is told some."""
    output: Tensor = network(y, _LEVEL) if getattr(network, "takes_noise_level", False) else network(y)
    return output


def _run(network: nn.Module, y: Tensor) -> Tensor:
    try:
        output = _applied(network, y)
    except FidelityError:
        raise
    except Exception as error:  # somebody else's code: it raises whatever it likes
        if is_out_of_memory(error):
            raise
        raise ArchitectureError(
            f"The network cannot be run on an image of {y.shape[-1]} × {y.shape[-2]} pixels",
            found=f"{type(error).__name__}: {_first_line(error)}",
        ) from error
    return output


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].partition(": [")[0][:200] if lines else type(error).__name__  # without sizes and addresses


@torch.no_grad()
def _last_layer(network: ForeignNetwork, y: Tensor) -> str | None:
    """Return the name of the convolution that the output follows one to one, if it ends in one.

    A change of its weights must change the output by just what the changed layer makes of its input: no factor
    behind it, no activation, no pixel shuffle.
    """
    ran: list[tuple[nn.Conv2d, Tensor]] = []

    def note(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if isinstance(layer, nn.Conv2d):
            ran.append((layer, inputs[0]))

    names = {layer: name for name, layer in network.module.named_modules() if isinstance(layer, nn.Conv2d)}
    hooks = [layer.register_forward_pre_hook(note) for layer in names]
    try:
        before = _applied(network, y)
    finally:
        for hook in hooks:
            hook.remove()
    if not ran:
        return None
    layer, features = ran[-1]
    once = sum(one is layer for one, _ in ran) == 1
    if not once or layer.stride != (1, 1) or layer.groups != 1 or features.shape[2:] != before.shape[2:]:
        return None
    return names[layer] if follows(layer, features, before, lambda: _applied(network, y)) else None


@torch.no_grad()
def follows(layer: nn.Conv2d, features: Tensor, before: Tensor, run: Callable[[], Tensor]) -> bool:
    """Tell whether a change of a layer's weights changes the output by what it makes of the features, cut to size.

    Parameters
    ----------
    layer
        A convolution of a network; its weights are left as they were.
    features
        What enters the layer, ``(N, F, H, W)``.
    before
        The network's output.
    run
        Makes that output again.
    """
    original = layer.weight.detach().clone()
    change = torch.randn(original.shape, generator=torch.Generator().manual_seed(1)).to(original)
    change *= _CHANGE * original.square().mean().sqrt().nan_to_num(0).clamp_min(1e-3)
    expected = layer._conv_forward(features, change, None)
    layer.weight.add_(change)
    try:
        found = run() - before
    finally:
        layer.weight.copy_(original)
    expected = expected[..., : found.shape[2], : found.shape[3]]
    size = expected.norm()
    return found.shape == expected.shape and bool(size > 0) and bool((found - expected).norm() <= _SAME * size)
