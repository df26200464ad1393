"""What every map of uncertainty or fidelity promises."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from napari_fidelity.core.options import Array
from napari_fidelity.methods import AnyMethod, FineTune
from napari_fidelity.methods.base import Method

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from napari_fidelity.methods.base import Network

Quantity = Literal["intensity", "difference", "plain"]

_COPIES = 4  # of the image: the judged one, that of a pass, mean and sum of squares


@dataclass(frozen=True)
class Output:
    """One of the images that a map is made of.

    Attributes
    ----------
    title
        What it shows, in words.
    quantity
        ``"intensity"``: an image like the result, in the measurement's units; ``"difference"``: of such images,
        or a standard deviation, in the same units but without offset; ``"plain"``: a number without unit.
    grid
        Whether it lies on the image's grid or the measurement's.
    signed
        Whether its sign means something, as that of a residual or a bias does.
    """

    title: str
    quantity: Quantity = "difference"
    grid: Literal["image", "measurement"] = "image"
    signed: bool = False


class UncertaintyMap(Method, ABC):
    """A method whose result is a map: where the result of another method can be trusted.

    ``steps`` yields one step per pass, with the map so far as its estimate; the result's ``image`` is the first of
    ``outputs`` and its ``maps`` hold all of them by name. Numbers about the whole image are scores of the last
    step.

    Attributes
    ----------
    title
        Its name in menus and tables.
    outputs
        The images it makes, by name; the first is the map itself.
    """

    title: ClassVar[str]
    outputs: ClassVar[Mapping[str, Output]]
    of: AnyMethod = Field(FineTune(), description="The method whose result is judged.")
    image: Array | None = Field(
        None, description="The result to judge, where there is one already; left out, the method makes it."
    )

    @property
    def reads_measurement(self) -> bool:
        """Whether the network is that of a restoration method."""
        return self.of.reads_measurement

    @property
    def spatial_dims(self) -> tuple[int, ...]:
        """How many spatial axes a measurement may have."""
        return self.of.spatial_dims

    def default_model(self) -> str | None:
        """Return the network that the judged method takes by itself."""
        return self.of.default_model()

    def memory(
        self,
        shape: Sequence[int],
        model: Network | None,
        device: torch.device,
        image_shape: Sequence[int] | None = None,
    ) -> int:
        """Return about how many bytes a run holds at once. See :meth:`Method.memory`."""
        accumulators = 4 * prod(image_shape or shape) * (_COPIES + len(self.outputs))
        return self.of.memory(shape, model, device, image_shape) + accumulators


def judged_method(method: Method) -> Method:
    """Return the method that a map judges; a method that is no map as it is."""
    return method.of if isinstance(method, UncertaintyMap) else method
