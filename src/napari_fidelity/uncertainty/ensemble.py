"""Ensembles: how far results differ that could as well have been this one."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, model_validator

from napari_fidelity.core.errors import OptionError
from napari_fidelity.methods import Apply, FineTune, Project
from napari_fidelity.methods._follow import follow
from napari_fidelity.methods.calls import generator
from napari_fidelity.methods.checks import check_measurement
from napari_fidelity.uncertainty._judged import judged
from napari_fidelity.uncertainty._passes import Passes
from napari_fidelity.uncertainty.base import Output
from napari_fidelity.uncertainty.deviation import INTERVALS, Confidence, DeviationMap

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import torch

    from napari_fidelity.core.step import Result
    from napari_fidelity.core.trust import Trust
    from napari_fidelity.methods.base import LinearOperator, Network, Steps
    from napari_fidelity.operators.noise import Noise
    from napari_fidelity.stopping.rules import StoppingRule
    from napari_fidelity.uncertainty._files import MemberFiles
    from napari_fidelity.uncertainty._members import Member, Task

_NO_CHANCE = 1e-4  # root mean square, on the range [0, 1]


class Ensemble(DeviationMap):
    """Standard deviation between the results of a method that differ in what should not matter.

    - ``seeds``: the method with several seeds, for methods that begin at random (DIP, DeepRED, ZSSR).
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
        **INTERVALS,
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

    # none is an option, nor ever written down: whether code in the models' files may run, these models, and what
    # scale they are adapted to
    _trust: Trust = PrivateAttr(False)
    _files: Any = PrivateAttr(None)
    _scale: int = PrivateAttr(0)

    def holding(self, trust: Trust = False) -> Self:
        """Return a copy that loads each of its models once, when it is first needed, and keeps them.

        That ends with :meth:`let_go`. One that does so already is returned as it is. ``trust`` says whether
        code in the files may run, in all or in those of some contents.
        """
        if self._files is not None:
            return self
        copied = self.replace()
        copied._trust = trust or self._trust
        copied._files = copied.files()
        return copied

    def for_scale(self, scale: int) -> Self:
        """Return a copy that adapts its models to a scale where no network beside them tells one; 0: to none."""
        copied = self.replace()
        copied._scale = scale
        return copied

    def let_go(self) -> None:
        """Let go of the models that it and its copies hold."""
        if self._files is not None:
            self._files.close()

    def files(self) -> MemberFiles:
        """Return where its models are held; of one that holds none, for as long as they are used."""
        from napari_fidelity.uncertainty._files import MemberFiles

        held: MemberFiles | None = self._files
        return MemberFiles(self._trust) if held is None else held

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed; see :meth:`Options.replace`."""
        copied = super().replace(**changes)
        copied._trust, copied._files, copied._scale = self._trust, self._files, self._scale
        return copied

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
        return "seeds" if self.of.begins_at_random else "views"

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`.

        Of several networks, all are held on the processor, and on another device the one of the run and one more;
        they run one after the other.
        """
        if self.differs_in != "models":
            return super().memory(shape, model, device, image_shape)
        from napari_fidelity.methods._memory import weights_memory  # both load torch
        from napari_fidelity.uncertainty._members import loaders

        loaded = [load() for load in loaders(model, self.models, self.files(), self._scale)]
        networks = {id(network): network for network in loaded}.values()
        run = partial(super().memory, shape, device=device, image_shape=image_shape)
        if device.type == "cpu":
            return sum(map(weights_memory, networks)) + max(run(model=network) for network in networks)
        others = {id(network): weights_memory(network) for network in networks if network is not model}
        return weights_memory(model) + max(others.get(id(network), 0) + run(model=network) for network in networks)

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
        method: Any = self.of.replace(snapshots=0) if self.of.iterative else self.of
        task = Task(method, y, operator, model, noise, stop, weights, seed)
        passes = Passes(self.members, started)
        image, asked = None, ""
        if self.image is not None:
            given, _ = yield from judged(self, y, operator, model, total=self.members)
            image = given.image
        tuned: Result[torch.Tensor] | None = None
        if self.differs_in == "views" and isinstance(self.of, FineTune):
            tuned, asked = yield from follow(task.steps(), passes.meanwhile)
            image = tuned.image if image is None else image
            if asked:
                return passes.result(asked, image)
        judge = partial(
            Confidence, self, y=y, operator=operator, model=model, noise=noise, weights=weights, seed=seed
        )
        return (yield from self._run(self._members(task, tuned), passes, image, judge))

    def _run(
        self,
        members: list[Member],
        passes: Passes,
        image: torch.Tensor | None,
        judge: Callable[[torch.Tensor], Confidence],
    ) -> Steps:
        """Run all members; ``image`` is the judged one, that of the first member if left out."""
        passes.total = len(members)
        asked, first = "", None
        for member in members:
            result, asked = yield from follow(member.steps(), passes.meanwhile)
            made = member.back(result.image)
            del result  # it may hold a network, and the next one is about to run
            image = made if image is None else image
            if asked:
                break
            if first is not None and self.differs_in == "seeds" and _alike(first, made):
                raise OptionError(
                    f"{type(self.of).__name__} gives the same image whatever the seed",
                    do="Choose an ensemble over views or models, or the bootstrap",
                )
            first = made if passes.count == 0 else None
            passes.confidence = passes.confidence or judge(image)
            asked = (yield passes.take({"": made})) or ""
            if asked:
                break
        return passes.result(asked or f"all {len(members)} {self.differs_in} are done", image)

    def _members(self, task: Task, tuned: Result[torch.Tensor] | None) -> list[Member]:
        """Return the members; ``tuned`` is what a fine-tuning gave whose network is to be looked at."""
        from napari_fidelity.methods.tuned import tuned_network  # both load torch
        from napari_fidelity.uncertainty import _members as of

        if self.differs_in == "models":
            return of.over_networks(task, self.models, self.files(), self._scale)
        if self.differs_in == "seeds":
            return of.over_seeds(task, self.members)
        if tuned is not None:
            return of.network_over_views(task, tuned_network(tuned), self.members)
        if isinstance(self.of, Apply | Project) and task.model is not None:
            return of.network_over_views(task, task.model, self.members)
        return of.method_over_views(task, self.members)


def _alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether images differ by no more than estimates that hang on random probes make them."""
    return bool((a - b).square().mean().sqrt() < _NO_CHANCE)
