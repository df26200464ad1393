"""What one iteration of fine-tuning works out: the last layer, the image, the loss, and its gradient."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

import torch

from napari_fidelity.methods._equations import Equations
from napari_fidelity.methods._examples import AtOnce, Crops, no_dependence
from napari_fidelity.methods.data_term import total_variation
from napari_fidelity.methods.last_layer import Pass, Regression
from napari_fidelity.methods.projection import UNKNOWN_NOISE
from napari_fidelity.methods.views import VIEWS, from_view, to_view
from napari_fidelity.operators.local import LocalMap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from napari_fidelity.methods._examples import Example
    from napari_fidelity.methods._runner import Runner
    from napari_fidelity.methods.data_term import DataTerm
    from napari_fidelity.methods.finetune import FineTune
    from napari_fidelity.methods.last_layer import Change

log = logging.getLogger(__name__)


@dataclass
class Evaluation:
    """One iteration.

    Attributes
    ----------
    view, change
        What it looked at, and how the last layer was changed for that.
    image
        In its own orientation, detached.
    loss, data
        The loss, and its data term.
    gradients
        Of the loss, with respect to the images that the network made of each input, in the view.
    """

    view: int
    change: Change | None
    image: torch.Tensor
    loss: float
    data: float
    gradients: list[torch.Tensor]


class Objective:
    """The loss of one measurement: data term, coarser copy, total variation, and distance from the trained ones.

    The loss and its gradient with respect to the image are worked out on the whole image; only the network is run
    in tiles where there are any.

    Parameters
    ----------
    options
        The method.
    runner
        Runs the network.
    term
        The data term.
    shown
        What the network is shown of the measurement.
    copy
        The coarser example and what should become of it, or ``None``.
    first
        The network's first output.
    sigma2
        Variance of the measurement's noise.
    seed
        Of the order of crops.
    views
        Flips and turns that the iterations go through.
    start
        The run on ``shown`` that there is already, or ``None``.
    """

    def __init__(
        self,
        options: FineTune,
        runner: Runner,
        term: DataTerm,
        shown: torch.Tensor,
        copy: tuple[torch.Tensor, torch.Tensor] | None,
        first: torch.Tensor,
        sigma2: float,
        seed: int,
        views: Sequence[int],
        start: Pass | None = None,
    ) -> None:
        self.views = views
        self.options, self.runner, self.term, self.shown, self.copy = options, runner, term, shown, copy
        self.parameters: list[nn.Parameter] = []
        self.anchor: list[torch.Tensor] = []
        self._sigma2, self._seed, self._start = sigma2, seed, start
        self._shape, self._corner = tuple(first.shape[2:]), first[:, :, :1, :1]
        # Samples of the image per sample of the measurement: what the closed form's weights go with.
        self._ratio = first[0, 0].numel() / shown[0, 0].numel()
        self._made: tuple[object, list[Example]] | None = None

    @cached_property
    def local(self) -> LocalMap | None:
        """What the last layer is fitted through, on windows of the image; ``None`` if it needs the whole."""
        found = self.term.local(self._shape)
        if found is None:
            return None
        # a blur as wide as a tile would have the network run on more than a tile
        middle = tuple((n // 2, n // 2 + 1) for n in self.term.linear_target().shape[2:])
        widest = max(stop - start for start, stop in found.needs((middle[0], middle[1])))
        tiles = self.runner.tiling.tiles
        return None if tiles is not None and widest > tiles.side * self._shape[0] / self.shown.shape[2] else found

    def move(self, parameters: list[nn.Parameter]) -> None:
        """Say which parameters move, and keep where they began if they are not to go far."""
        self.parameters = parameters
        self.anchor = [p.detach().clone() for p in parameters] if self.options.proximity else []

    def evaluate(self, index: int, *, descends: bool) -> Evaluation:
        """Work out one iteration, with gradients if a step follows.

        Raises
        ------
        ArchitectureError
            If there is no gradient.
        """
        return self.runner.tiling.fitting(partial(self._evaluate, self.views[index % len(self.views)], descends))

    def descend(self, index: int, found: Evaluation) -> None:
        """Set the parameters' gradients to that of the loss, or to that of this iteration's crops."""
        self.runner.tiling.fitting(partial(self._pull_back, index, found))
        self._made = None
        found.gradients.clear()

    def _evaluate(self, view: int, descends: bool) -> Evaluation:
        self._made = None
        with torch.set_grad_enabled(descends):
            examples = self._examples(view)
            change = None if self.runner.layer is None else self._solve(examples, view)
            images = [example.image(change).requires_grad_(descends) for example in examples]
            image = from_view(images[0], view)
            loss = data = self.term(image)
            if self.copy is not None:
                loss = loss + self._pairs * (images[1] - to_view(self.copy[1], view)).square().mean()
            if self.options.tv:
                loss = loss + self.options.tv * total_variation(image)
            gradients = _gradients(loss, images) if descends else []
            value = float(loss.detach())
            if self.anchor:
                value += float(self._drift().detach())
        if descends:
            self._made = self.runner.tiling.tiles, examples
        return Evaluation(view, change, image.detach(), value, float(data.detach()), gradients)

    def _pull_back(self, index: int, found: Evaluation) -> None:
        for parameter in self.parameters:
            parameter.grad = None
        made, self._made = self._made, None
        if made is None or made[0] is not self.runner.tiling.tiles:
            del made  # the graph that did not fit
            made = None, self._examples(found.view)
        crops = self._crops(index)
        for example, gradient in zip(made[1], found.gradients, strict=True):
            example.pull_back(gradient, found.change, crops)
        if self.anchor:
            self._drift().backward()  # type: ignore[no-untyped-call]

    def _crops(self, index: int) -> Crops | None:
        """Return from which tiles an iteration takes its gradient; ``None`` for all."""
        tiles = self.runner.tiling.tiles
        if self.options.crops is None or tiles is None:
            return None
        return Crops(self.options.crops / tiles.number(self.shown.shape[2:]), index, self._seed)

    def _examples(self, view: int) -> list[Example]:
        """Return the measurement, and its coarser copy if there is one, as the network sees them in a view."""
        start, self._start = self._start, None
        if start is not None and view == VIEWS[0] and not torch.is_grad_enabled():
            found: list[Example] = [AtOnce(start)]
        else:
            found = [self.runner.example(to_view(self.shown, view))]
        if self.copy is not None:
            found.append(self.runner.example(to_view(self.copy[0], view)))
        return found

    @torch.no_grad()
    def _solve(self, examples: list[Example], view: int) -> Change:
        """Solve the last layer for one view, from the measurement and from its coarser copy."""
        regression = Regression(Pass(self._corner, None, self.runner.layer))
        term = self.term
        equations = [Equations(term.linear_target(), term.linear, self.local, self._shape, view, term.row_weights)]
        if self.copy is not None:
            target = self.copy[1]
            shape = tuple(target.shape[2:])
            equations.append(Equations(target, lambda z: z, LocalMap(), shape, view, factor=self._pairs))
        for example, wanted in zip(examples, equations, strict=True):
            example.gather(wanted, regression)
        return regression.solve(self._ridge)

    def _drift(self) -> torch.Tensor:
        drift = [(p - a).square().sum() for p, a in zip(self.parameters, self.anchor, strict=True)]
        return self.options.proximity * torch.stack(drift).sum()

    @property
    def _pairs(self) -> float:
        # The finer the image against the measurement, the less a copy coarser still has in common with it.
        return 1.6 / self._ratio**2 if self.options.pairs is None else self.options.pairs

    @property
    def _ridge(self) -> float:
        if self.options.ridge is not None:
            return self.options.ridge
        # The coarser copy shows the last layer what is no noise; without it, the ridge alone has to hold it back.
        noisy = 1.0 if self.copy is not None else max(1.0, self._sigma2 / UNKNOWN_NOISE**2)
        return 0.03 * self._ratio * noisy


def _gradients(loss: torch.Tensor, images: list[torch.Tensor]) -> list[torch.Tensor]:
    if not loss.requires_grad:
        raise no_dependence()
    found = torch.autograd.grad(loss, images)
    return [gradient.detach() for gradient in found]
