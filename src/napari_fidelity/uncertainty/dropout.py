"""Monte Carlo dropout: how much the result hangs on single features of the network.

Lucas, Lopez-Tapia, Molina, Katsaggelos 2020 (arXiv:1912.12879), section V-B; after Gal and Ghahramani 2016
(arXiv:1506.02142), where the spread under dropout approximates a Bayesian posterior of the weights. Here no layer
was trained with dropout: the map says how sensitive the network is, it is no calibrated probability.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.core.precision import Precision, autocast
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods._follow import follow
from napari_fidelity.methods.apply import tiling_for
from napari_fidelity.methods.calls import call_network, generator, in_channels_last
from napari_fidelity.methods.checks import check_finite_output, check_fit, check_measurement
from napari_fidelity.methods.projection import project, ridge_for
from napari_fidelity.networks.copies import private_copy
from napari_fidelity.uncertainty._judged import judged
from napari_fidelity.uncertainty._passes import Passes
from napari_fidelity.uncertainty.base import Output
from napari_fidelity.uncertainty.deviation import INTERVALS, Confidence, DeviationMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from napari_fidelity.methods import AnyMethod
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule


class Dropout(DeviationMap):
    """Standard deviation of the network's output under dropout at test time (Lucas 2020, section V-B).

    Elements of the features are dropped behind each residual block, in ``passes`` runs of the network on the same
    measurement. The network is that of :class:`Apply` or :class:`Project`, or the one that :class:`FineTune` ends
    with: as its last iteration ran it, before averaging and projection. It is run as a private copy. A result
    that is given (``image``) changes nothing: the map is the network's.
    """

    kind: Literal["dropout"] = "dropout"
    title: ClassVar[str] = "Dropout in the network"
    outputs: ClassVar[Mapping[str, Output]] = {
        "std": Output("Standard deviation under dropout"),
        "std_before": Output("Standard deviation under dropout before fine-tuning"),
        "mean": Output("Mean of all passes", "intensity"),
        **INTERVALS,
    }
    p: float = Field(0.0005, gt=0, le=0.5, description="Probability that an element of the features is dropped.")
    passes: int = Field(50, ge=2, le=100_000, description="Runs of the network.")
    place: Literal["blocks", "convolutions"] = Field(
        "blocks",
        description="Where elements are dropped: behind each residual block, or behind each convolution but the "
        "last. A network in which no blocks are found takes the convolutions.",
    )
    before: bool = Field(
        False,
        description="Make the map of the network as it was trained too, with the same random numbers: before "
        "and after fine-tuning.",
        json_schema_extra={"words": "before tuning, too"},
    )
    precision: Precision = Field(
        "float32",
        description="Arithmetic of the network. bfloat16 is faster on some processors, but its rounding is as "
        "large as what dropout at the default rate changes.",
    )
    project: bool = Field(False, description="Project the image of each pass onto the data.")

    def steps(
        self,
        y: torch.Tensor,
        operator: LinearOperator,
        model: Network | None = None,
        *,
        noise: Noise | None = None,
        stop: StoppingRule | None = None,
        weights: torch.Tensor | None = None,
        rng: int | torch.Generator = 0,
    ) -> Steps:
        """Run the network ``passes`` times. See :meth:`Method.steps`; ``stop`` is the fine-tuning's.

        Raises
        ------
        OptionError
            If the judged method has no restoration network, or ``before`` is asked for without fine-tuning.
        ArchitectureError
            If there is no place for dropout in the network.
        DivergedError
            If the fine-tuning diverged, so that there is no tuned network.
        """
        from napari_fidelity.methods.tuned import tuned_network  # it loads torch

        started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        self._check(model)
        assert isinstance(model, torch.nn.Module)
        rng = generator(rng)
        seed = rng.initial_seed()
        known: dict[str, Any] = {"noise": noise, "weights": weights}
        passes = Passes(self.passes, started)
        found, asked = yield from judged(self, y, operator, model, total=self.passes, stop=stop, rng=seed, **known)
        image, networks = found.image, {"": model}
        if isinstance(self.of, FineTune) and not asked:
            if self.image is not None:  # nobody kept the network that made it
                run = self.of.steps(y, operator, model, stop=stop, rng=seed, **known)
                found, asked = yield from follow(run, passes.meanwhile)
            networks = {"": tuned_network(found)} | ({"_before": model} if self.before else {})
        with torch.no_grad():
            passes.confidence = Confidence(self, image, y, operator, model, seed=seed, **known)
            dropped = [_Dropped(self, network, y, operator, seed, **known) for network in networks.values()]
        while passes.count < self.passes and not asked:
            drawn = int(torch.randint(2**62, (1,), generator=rng))
            with torch.no_grad():
                images = [one.run(torch.Generator().manual_seed(drawn)) for one in dropped]
                step = passes.take(dict(zip(networks, images, strict=True)))
            asked = (yield step) or ""
        return passes.result(asked or f"all {self.passes} passes are done", image)

    def _check(self, model: Network | None) -> None:
        if not isinstance(self.of, FineTune | Project | Apply):
            raise OptionError(
                f"Dropout needs a method with a restoration network, which {type(self.of).__name__} has not",
                do="Choose an ensemble or the bootstrap, which suit every method",
            )
        if self.before and not isinstance(self.of, FineTune):
            raise OptionError(
                f"{type(self.of).__name__} does not tune the network, so there is no map of before",
                do="Choose FineTune as the method, or leave 'before' out",
            )
        if not isinstance(model, torch.nn.Module):
            raise OptionError(
                "Dropout needs a restoration network (torch.nn.Module)",
                found="none" if model is None else type(model).__name__,
                do="Give a model",
            )


class _Dropped:
    """A network that is run on one measurement under dropout."""

    def __init__(
        self,
        options: Dropout,
        network: torch.nn.Module,
        y: torch.Tensor,
        operator: LinearOperator,
        seed: int,
        *,
        noise: Noise | None,
        weights: torch.Tensor | None,
    ) -> None:
        from napari_fidelity.methods.tuned import TunedNetwork
        from napari_fidelity.networks.dropout import places_of

        self._p = options.p
        self._autocast = autocast(options.precision, y.device)
        self._context: Callable[[], AbstractContextManager[object]] = nullcontext
        if isinstance(network, TunedNetwork):  # made for this run alone
            network.precision, network.within = options.precision, self._within
            self._network: Callable[[torch.Tensor], torch.Tensor] = network.image
            self._shown = network.shown(y)
        else:
            network = private_copy(network, y.device)
            network = in_channels_last(network) if y.ndim == 4 else network  # the faster layout
            self._network, self._shown = _in_tiles(options.of, network, y, self._within), y
        if y.ndim == 4:
            self._shown = self._shown.contiguous(memory_format=torch.channels_last)
        self._places = places_of(network, options.place, self._plain)
        self.image = self._plain()
        check_finite_output(self.image)
        check_fit(operator, self.image, y)
        self._finish: Callable[[torch.Tensor], torch.Tensor] = lambda image: image
        if options.project:
            known: dict[str, Any] = {"noise": noise, "weights": weights}
            ridge = ridge_for(self.image, y, operator, **known, rng=seed)
            self._finish = lambda image: project(image, y, operator, **known, ridge=ridge)

    def _within(self) -> AbstractContextManager[object]:
        """Return what the network is run in; tile by tile, as tiles themselves are found without dropout."""
        return self._context()

    def _plain(self) -> torch.Tensor:
        with self._autocast:
            image = self._network(self._shown)
        return image.float()

    def run(self, rng: torch.Generator) -> torch.Tensor:
        """Return the image of one pass."""
        from napari_fidelity.networks.dropout import dropout

        self._context = partial(dropout, self._places, self._p, rng)
        try:
            image = self._plain()
        finally:
            self._context = nullcontext
        return self._finish(image)


def _in_tiles(
    method: AnyMethod,
    network: torch.nn.Module,
    y: torch.Tensor,
    within: Callable[[], AbstractContextManager[object]],
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return how a network is run as it was trained: in tiles where the judged method or memory asks for them."""
    from napari_fidelity.methods._tiles import in_tiles

    def run(z: torch.Tensor) -> torch.Tensor:
        with within():
            return call_network(network, z)

    if y.ndim != 4:
        return run
    alone = method if isinstance(method, Apply | Project) else Apply()
    if isinstance(method, FineTune):
        alone = Apply(tile=method.tile, margin=method.margin)
    tiling = tiling_for(alone, y, network)
    return lambda z: tiling.fitting(lambda: in_tiles(run, z, tiling.tiles))
