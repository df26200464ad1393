"""What the members of an ensemble differ in: seeds, views or networks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.denoisers.network import prepared
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods.apply import ready
from napari_fidelity.methods.views import commuting_views, from_view, to_view, views_for
from napari_fidelity.networks.adapters import for_operator, innermost, takes_operator
from napari_fidelity.operators._foreign import name_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from napari_fidelity.methods import AnyMethod
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.uncertainty._files import MemberFiles

_APART = 15_485_863  # between the seeds of members; slices of a stack lie 1 apart, networks of a prior 1,000,003


@dataclass(frozen=True)
class Task:
    """What all members have in common: the method, and what its ``steps`` are given."""

    method: AnyMethod
    y: torch.Tensor
    operator: LinearOperator
    model: Network | None
    noise: Noise | None
    stop: StoppingRule | None
    weights: torch.Tensor | None
    seed: int

    def steps(self) -> Steps:
        """Run the method."""
        return self.method.steps(
            self.y,
            self.operator,
            self.model,
            noise=self.noise,
            stop=self.stop,
            weights=self.weights,
            rng=self.seed,
        )


@dataclass(frozen=True)
class Member:
    """One member: how to run it, and how to bring its image into the orientation and shape of all."""

    steps: Callable[[], Steps]
    back: Callable[[torch.Tensor], torch.Tensor] = lambda image: image


# -- seeds ------------------------------------------------------------------------------------------------------


def over_seeds(task: Task, count: int) -> list[Member]:
    """Return the method with several seeds."""
    seeds = [(task.seed + number * _APART) % 2**63 for number in range(count)]
    return [Member(replace(task, seed=seed).steps) for seed in seeds]


# -- views ------------------------------------------------------------------------------------------------------


def network_over_views(task: Task, network: Network, count: int) -> list[Member]:
    """Return a network that is shown the measurement in several views; for any image formation model.

    One that is told the model is shown the views which that commutes with.
    Its images are projected onto the data where the method's are.

    Raises
    ------
    OptionError
        If a network that is told the model would be told it rightly in one view alone.
    """
    method = task.method
    if isinstance(method, FineTune):
        method = Project() if method.project else Apply()
    network = ready(network, task.y.device)
    views = _enough(views_for(network, task.operator, task.y, count), task)
    return [Member(replace(task, method=method, model=_viewed(network, view)).steps) for view in views]


def _viewed(network: Network, view: int) -> Network:
    """Return a network as it sees the image in a view, its output turned back."""
    from napari_fidelity.methods.tuned import TunedNetwork

    if isinstance(network, TunedNetwork):  # what it is shown follows from the measurement as it is
        return lambda y: from_view(network.image(to_view(network.shown(y), view)), view)
    return lambda y: from_view(network(to_view(y, view)), view)


def method_over_views(task: Task, count: int) -> list[Member]:
    """Return the method on several views of the measurement.

    Raises
    ------
    OptionError
        If the image formation model commutes with no flip or turn: then it says nothing of a turned image.
    """
    views = _enough(commuting_views(task.operator, task.y)[:count], task)
    return [_turned(task, view) for view in views]


def _enough(views: Sequence[int], task: Task) -> Sequence[int]:
    if len(views) < 2:
        raise OptionError(
            "The image formation model commutes with no flip or turn, so the method cannot be run on views",
            found=f"{name_of(task.operator)} on {' × '.join(map(str, task.y.shape[2:]))} pixels",
            do="Choose an ensemble over seeds, or the bootstrap",
        )
    return views


def _turned(task: Task, view: int) -> Member:
    method: Any = task.method
    images = {
        name: to_view(torch.from_numpy(value.copy()), view).numpy()
        for name in ("start", "mask")
        if isinstance(value := getattr(method, name, None), np.ndarray)
    }
    turned = replace(
        task,
        method=method.replace(**images),
        y=to_view(task.y, view).contiguous(),
        weights=None if task.weights is None else to_view(task.weights.expand_as(task.y), view),
    )
    return Member(turned.steps, partial(from_view, view=view))


# -- networks ---------------------------------------------------------------------------------------------------


def over_networks(task: Task, names: Sequence[str], files: MemberFiles, scale: int = 0) -> list[Member]:
    """Return the method with several networks: the one it was given, and those of bundled ids or files.

    They are adapted to one scale, as by :func:`loaders`. A file that is the one given again counts once.

    Raises
    ------
    OptionError
        If the method takes no network, these are fewer than two, or they look at different numbers of frames.
    FidelityError
        What :func:`napari_fidelity.load_model` raises.
    """
    if not task.method.reads_measurement and task.method.default_model() is None:
        raise OptionError(
            f"{type(task.method).__name__} takes no network", do="Choose an ensemble over seeds or views"
        )
    unique: dict[Any, Member] = {}
    windows: set[int] = set()
    for load in loaders(task.model, names, files, scale, task.y.device):
        network = load()  # now: a damaged file is told of before the first one has run
        info = getattr(innermost(network), "info", None)
        same = info.sha256 if info is not None and info.sha256 else id(network)
        windows.add(getattr(network, "frames", 1))
        unique.setdefault(same, Member(partial(_run_with, task, load), partial(_like, task.y.shape)))
        del network
    if len(windows) > 1:
        raise OptionError(
            "A network for video and one for single images make no ensemble: they are shown different frames",
            found=f"windows of {' and '.join(map(str, sorted(windows)))} frames",
            do="Take networks with one window",
        )
    if len(unique) < 2:
        raise OptionError(
            "An ensemble needs at least two different networks", found=str(len(unique)), do="Name more in 'models'"
        )
    return [*unique.values()]


def loaders(
    own: Network | None,
    names: Sequence[str],
    files: MemberFiles,
    scale: int = 0,
    device: torch.device | str = "cpu",
) -> list[Callable[[], Network]]:
    """Return how to come by each network: that of the run, if any, and those of bundled ids or files.

    Parameters
    ----------
    own
        Network of the run, to whose scale the others are adapted, unless the operator tells it its own.
    names
        Bundled ids or files.
    files
        Where these are held.
    scale
        What they are adapted to where no network of the run says it; 0 for as they are.
    device
        Where they are to lie.
    """
    network = innermost(own)
    wanted = scale if takes_operator(network) else getattr(network, "scale", scale)
    given: list[Callable[[], Network]] = [] if own is None else [lambda: own]
    return given + [partial(files.network, name, scale=wanted or None, device=device) for name in names]


def _run_with(task: Task, load: Callable[[], Network]) -> Steps:
    """Run the method with a network that is put on its device now, and let go of it."""
    return (yield from _with(task, load()).steps())


def _with(task: Task, network: Network) -> Task:
    """Return the method with a network, through which channels that it does not know run one by one."""
    y, weights = task.y, task.weights
    if not task.method.reads_measurement:  # the denoiser adapts it
        return replace(task, model=network)
    network, fold = prepared(for_operator(network, task.operator, task.noise), y.shape[1])
    if not fold:
        return replace(task, model=network)
    planes = y.reshape(-1, 1, *y.shape[2:])
    if weights is not None:
        weights = weights.expand_as(y).reshape(planes.shape)
    return replace(task, model=network, y=planes, weights=weights)


def _like(shape: Sequence[int], image: torch.Tensor) -> torch.Tensor:
    """Return an image whose channels have run through a network one by one with its channels again."""
    return image if len(image) == shape[0] else image.reshape(*shape[:2], *image.shape[2:])
