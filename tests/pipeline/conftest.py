"""What tests of the pipeline share: a method that remembers what it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pytest

from napari_fidelity import Image, restore
from napari_fidelity.core.options import Array  # noqa: TC001 - pydantic reads it
from napari_fidelity.core.step import Record, Result, Step
from napari_fidelity.methods import Project
from napari_fidelity.uncertainty import NullSpace, Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import torch


class Solve(Project):
    """The least-norm solution, in one step; :attr:`calls` holds what it was given."""

    calls: ClassVar[list[dict[str, Any]]] = []
    reads_measurement: ClassVar[bool] = False
    start: Literal["measurement"] | Array = "measurement"
    own_model: str | None = None

    def default_model(self) -> str | None:
        return self.own_model

    def steps(self, y: torch.Tensor, operator: Any, model: Any = None, **given: Any) -> Iterator[Any]:
        self.calls.append({"y": y, "start": self.start, "model": model, **given})
        x = operator.A_dagger(y)
        step = Step(0, 1, 0.0, {}, lambda: x)
        reply = yield step
        return Result(x, (Record.of(step),), reply or "solved", 0.0)


class Passes(NullSpace):
    """A map of three outputs and five passes, whose values tell how it was called."""

    outputs: ClassVar[Mapping[str, Output]] = {
        "std": Output("Number of passes / 100"),
        "mean": Output("The judged image", "intensity"),
        "ratio": Output("The measurement", "plain", "measurement"),
    }
    calls: ClassVar[list[dict[str, Any]]] = []
    passes: ClassVar[int] = 5

    def steps(self, y: torch.Tensor, operator: Any, model: Any = None, **given: Any) -> Any:
        self.calls.append({"y": y, "image": self.image, "of": self.of, "model": model, **given})
        made = yield from self.of.steps(y, operator, model, **given)
        x = made.image if self.image is None else made.image.new_tensor(self.image).expand_as(made.image)
        history = []
        for index in range(self.passes):
            std = x * 0 + (index + 1) / 100
            step = Step(index, self.passes, 0.0, {}, lambda std=std: std)
            history.append(Record.of(step))
            reply = yield step
            if reply:
                break
        maps = {"std": std, "mean": x, "ratio": y}
        return Result(std, tuple(history), reply or "all passes are done", 0.0, maps=maps, network=model)


@pytest.fixture
def passes() -> type[Passes]:
    """A small map's class, whose ``calls`` are none yet."""
    Passes.calls.clear()
    return Passes


@pytest.fixture
def solver() -> type[Solve]:
    """The method's class, whose ``calls`` are none yet."""
    Solve.calls.clear()
    return Solve


@pytest.fixture
def solve(solver: type[Solve]) -> Callable[..., Result[Image]]:
    """Restore with that method; each step's image has its place in the result: ``solve(image, operator)``."""

    def run(image: Any, operator: Any, **settings: Any) -> Result[Image]:
        seen: list[Image] = []
        settings = {"method": solver(), "device": "cpu", **settings}
        result = restore(image, operator=operator, on_step=lambda step: seen.append(step.estimate()), **settings)
        for part in seen:
            assert part.pixel_size == {axis: result.image.pixel_size[axis] for axis in part.pixel_size}
            assert set(part.axes) <= set(result.image.axes)
        return result

    return run
