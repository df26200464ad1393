"""Ensembles: how far results differ that could as well have been this one."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, model_validator

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.lazy import torch
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods.base import check_measurement, generator
from napari_fidelity.methods.deep_prior import DeepPrior
from napari_fidelity.uncertainty._inner import follow, tuned_network
from napari_fidelity.uncertainty._passes import Passes
from napari_fidelity.uncertainty.base import Output, UncertaintyMap

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.uncertainty._members import Member, Task
    from napari_fidelity.uncertainty._passes import TensorStep


class Ensemble(UncertaintyMap):
    """Standard deviation between the results of a method that differ in what should not matter.

    - ``seeds``: the method with several seeds, for methods that begin at random (DIP, DeepRED).
    - ``views``: the eight flips and quarter turns of the image (Timofte 2016, doi:10.1109/CVPR.2016.206). A
      network (of Apply, Project, or the one that FineTune ends with) is shown the measurement in each of them. Any
      other method is run on each, where flipping and turning the image does the same to its measurement.
    - ``models``: several networks, each a bundled id or a file (Lakshminarayanan 2017, arXiv:1612.01474).

    Where all members make the same mistake, the map is small: it bounds the error from below.
    """

    kind: Literal["ensemble"] = "ensemble"
    title: ClassVar[str] = "Ensemble"
    outputs: ClassVar[Mapping[str, Output]] = {
        "std": Output("Standard deviation between members"),
        "mean": Output("Mean of all members", "intensity"),
    }
    of_what: Literal["auto", "seeds", "views", "models"] = Field(
        "auto",
        description="What the members differ in. auto: models where some are named, seeds for methods that begin "
        "at random, else views.",
    )
    members: int = Field(8, ge=2, le=256, description="Number of members; of views there are at most eight.")
    models: tuple[str, ...] = Field(
        (), description="Bundled ids or files of the networks to compare, beside the model itself."
    )

    @model_validator(mode="after")
    def _has_members(self) -> Self:
        if self.of_what == "models" and not self.models:
            raise ValueError("an ensemble of models needs the names of some in 'models'")
        if self.of_what in ("seeds", "views") and self.models:
            raise ValueError(f"an ensemble over {self.of_what} has no use for 'models'")
        return self

    @property
    def differs_in(self) -> Literal["seeds", "views", "models"]:
        """What the members differ in."""
        if self.of_what != "auto":
            return self.of_what
        if self.models:
            return "models"
        return "seeds" if isinstance(self.of, DeepPrior) else "views"

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
        """Run every member. See :meth:`Method.steps`; ``stop`` is that of each member's run.

        A member whose run is ended by a reason that was sent is left out.

        Raises
        ------
        OptionError
            If the members cannot differ: the method does not depend on the seed, the image formation model
            commutes with no view, or there is only one network.
        """
        from napari_fidelity.uncertainty._members import Task

        started = time.perf_counter()
        y, weights = check_measurement(y, weights)
        seed = generator(rng).initial_seed()
        task = Task(self.of, y, operator, model, noise, stop, weights, seed)
        passes = Passes(self.members, started)
        members, asked, image = yield from self._members(task, passes)
        passes.total = len(members)
        first: torch.Tensor | None = None
        for member in members:
            if asked:
                break
            result, asked = yield from follow(member.task.steps(), passes.meanwhile)
            image = member.back(result.image)
            if asked:
                break
            if first is not None:
                self._check_different(first, image)
            first = image if passes.count == 0 else None
            asked = (yield passes.take({"": image})) or ""
        return passes.result(asked or f"all {len(members)} {self.differs_in} are done", image)

    def _members(
        self, task: Task, passes: Passes
    ) -> Generator[TensorStep, str | None, tuple[list[Member], str, torch.Tensor | None]]:
        """Return the members; of a network that had to be tuned first, a reason sent meanwhile and its image."""
        from napari_fidelity.uncertainty import _members as of

        if self.differs_in == "models":
            return of.over_networks(task, self.models), "", None
        if self.differs_in == "seeds":
            return of.over_seeds(task, self.members), "", None
        if isinstance(self.of, FineTune):
            result, asked = yield from follow(task.steps(), passes.meanwhile)
            if asked:
                return [], asked, result.image
            return of.network_over_views(task, tuned_network(result), self.members), "", result.image
        if isinstance(self.of, Apply | Project) and task.model is not None:
            return of.network_over_views(task, task.model, self.members), "", None
        return of.method_over_views(task, self.members), "", None

    def _check_different(self, first: torch.Tensor, second: torch.Tensor) -> None:
        if self.differs_in == "seeds" and torch.equal(first, second):
            raise OptionError(
                f"{type(self.of).__name__} gives the same image whatever the seed",
                do="Choose an ensemble over views or models, or the bootstrap",
            )
