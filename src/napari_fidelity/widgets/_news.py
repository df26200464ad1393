"""What a run tells the dock: its news, how far it is, how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class News:
    """One thing a run has to say; its generator yields one as often as it can.

    Attributes
    ----------
    kind
        ``"note"``, ``"step"``, ``"image"`` … as the dock that asked for the run likes.
    value
        What is said.
    make
        Makes the value, in the worker and only if the news will be shown: a few times a second, whatever the
        pace of the run. It may be called after the generator has gone on or ended.
    done, total
        How far the run is, and the end if it is known.
    text
        What the run is doing, for the reader.
    keep
        Whether this one must be shown. Without it, newer news take its place when the dock is busy.
    wait
        Whether the run waits until one with ``keep`` has been shown: a new layer is much work for the viewer, and
        twice that beside a run that wants the same processor cores.
    """

    kind: str
    value: Any = None
    make: Callable[[], Any] | None = None
    done: int = 0
    total: int | None = None
    text: str = ""
    keep: bool = False
    wait: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes
    ----------
    done, total
        Steps of the present stage, as its news count them.
    seconds_left
        Estimated from the steps of this stage; time spent paused does not count. ``None`` if unknown.
    text
        What the run is doing.
    """

    done: int = 0
    total: int | None = None
    seconds_left: float | None = None
    text: str = ""

    @property
    def left(self) -> str:
        """The time left in words, or an empty string."""
        return "" if self.seconds_left is None else f"{duration(self.seconds_left)} left"


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Attributes
    ----------
    kind
        ``"done"`` by itself, ``"stopped"`` on request, ``"failed"``.
    value
        What the generator returned; after a stop what it had by then, or ``None``.
    error
        What went wrong, as a message that can be shown as it is.
    """

    kind: Literal["done", "stopped", "failed"]
    value: Any = None
    error: Exception | None = None


def duration(seconds: float) -> str:
    """Return a time span in words: ``45 s``, ``1 min 20 s``, ``12 min``, ``2 h 5 min``."""
    whole = max(1, round(seconds))
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{whole} s"
    if minutes < 10:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
