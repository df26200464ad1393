"""What a method yields and what it returns.

Every method is a generator: ``Generator[Step[T], str | None, Result[T]]`` with tensors for ``T``; over a whole
image (:mod:`napari_fidelity.pipeline`) ``T`` is an image. The consumer decides on threads, progress bars, display
and history. Pausing is not asking for the next step. Two ways to stop early:

* ``generator.send("reason")`` asks the method to finish now; it returns its :class:`Result` with that reason;
* ``generator.close()`` drops it; the last :class:`Step` still holds its estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step(Generic[T]):
    """One iteration of a method.

    Attributes
    ----------
    index
        Number of the iteration, from 0; −1 while another method makes what the first one begins with.
    total
        The largest number of iterations there can be, or ``None`` if unknown.
    loss
        The objective at this iteration.
    scores
        Further numbers by name: ``"lr_psnr"`` in dB, ``"discrepancy"`` as a ratio, ``"held_out"`` …
    estimate
        Returns the image of this iteration; costs nothing until called. From a method: a tensor
        ``(N, C, *spatial)``, detached. From :func:`napari_fidelity.restore_steps`: an
        :class:`~napari_fidelity.core.arrays.Image` of the block in the measurement's intensity units, float32;
        of several frames one with an axis ``T``.
    seconds
        Time since the method started.
    block, blocks
        Which part of a larger image the step belongs to (slice, time point, run of frames), and how many there
        are.
    position
        Where that part lies along the image's other axes, by letter: ``{"T": 0, "Z": 3}``; empty for a method.
        Of several frames the first one.
    frames
        How many consecutive frames, from ``position["T"]`` on, the part has.
    """

    index: int
    total: int | None
    loss: float
    scores: Mapping[str, float]
    estimate: Callable[[], T]
    seconds: float = 0.0
    block: int = 0
    blocks: int = 1
    position: Mapping[str, int] = field(default_factory=dict)
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Record:
    """The numbers of one step, without its image: what a history is made of."""

    index: int
    loss: float
    seconds: float
    scores: Mapping[str, float] = field(default_factory=dict)
    block: int = 0

    @classmethod
    def of(cls, step: Step[Any]) -> Record:
        """Keep a step's numbers and let its image go."""
        return cls(step.index, step.loss, step.seconds, dict(step.scores), step.block)


@dataclass(frozen=True, slots=True)
class Result(Generic[T]):
    """What a method returns.

    Attributes
    ----------
    image
        The restored image: a tensor ``(N, C, *spatial)`` from a method, an
        :class:`~napari_fidelity.core.arrays.Image` from :func:`napari_fidelity.restore`.
    history
        One :class:`Record` per iteration.
    stop_reason
        Why the iteration ended, in words.
    seconds
        Wall-clock time of the method.
    provenance
        What the result was made from, as plain values.
    snapshots
        Estimates kept at chosen iterations, by iteration number.
    maps
        Further images of the same run by name, such as those of an uncertainty map.
    network
        The network that made the image, where the method changed it; from methods only, not from a whole image.
    """

    image: T
    history: tuple[Record, ...]
    stop_reason: str
    seconds: float
    provenance: Mapping[str, Any] = field(default_factory=dict)
    snapshots: Mapping[int, T] = field(default_factory=dict)
    maps: Mapping[str, T] = field(default_factory=dict)
    network: Any = None


def drain(
    steps: Generator[Step[T], str | None, Result[T]],
    on_step: Callable[[Step[T]], str | None] | None = None,
) -> Result[T]:
    """Run a method to its end.

    Parameters
    ----------
    steps
        The generator a method's ``steps`` returned.
    on_step
        Called with each step; a string it returns asks the method to finish, with that as the reason.

    Returns
    -------
    Result
        What the method returned.
    """
    reply: str | None = None
    try:
        while True:
            step = steps.send(reply) if reply is not None else next(steps)
            reply = on_step(step) if on_step is not None else None
    except StopIteration as stop:
        result: Result[T] = stop.value
        return result
    finally:
        steps.close()
