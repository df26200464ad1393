"""What the commands share: progress, Ctrl-C, messages, exit codes."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import threading
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TextIO

from rich.console import Console
from rich.logging import RichHandler
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from napari_fidelity.stopping.rules import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import FrameType, TracebackType

    from rich.progress import Task

    from napari_fidelity.core.errors import FidelityError
    from napari_fidelity.core.step import Step
    from napari_fidelity.stopping.rules import StoppingRule

OK, FAILED, MISUSED, INTERRUPTED = 0, 1, 2, 130

err = Console(stderr=True, highlight=False)
out = Console(highlight=False, soft_wrap=True)
_document: TextIO | None = None  # standard output, where it is kept for a document


def set_up_logging(*, quiet: bool) -> None:
    """Show the package's log on standard error: warnings only if ``quiet``."""
    handler = RichHandler(console=err, show_time=False, show_path=False, markup=False)
    handler.addFilter(_Once())
    log = logging.getLogger("napari_fidelity")
    log.handlers[:] = [handler]
    log.setLevel(logging.WARNING if quiet else logging.INFO)


class _Once:
    """Keep a message from being shown again: loading a model and computing with it both name the device."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        new = text not in self._shown
        self._shown.add(text)
        return new


@contextmanager
def json_alone() -> Iterator[None]:
    """Keep standard output for the document of :func:`print_json`; what prints meanwhile goes to standard error.

    Networks, operators and files of other people print what they like, while they are loaded and whenever they
    run. For a command as a whole, as standard output is that of all threads: to change it around each call of
    foreign code would take it from whatever else is running.
    """
    global _document
    before, _document = _document, sys.stdout
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _document = before


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, and nothing else."""
    (_document or sys.stdout).write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def print_error(error: FidelityError, *, as_json: bool) -> None:
    """Tell the user what was wrong, what was found and what to do."""
    if as_json:
        detail = {"kind": type(error).__name__, "what": error.what, "found": error.found, "do": error.do}
        print_json({"error": detail})
        return
    err.print("[bold red]Error:[/] ", end="")
    err.print(str(error), markup=False)


class Interrupt:
    """Ctrl-C as a request: the first one ends the run with the best result so far, the second one aborts.

    Attributes
    ----------
    requested
        Whether it was pressed.
    begun
        Whether there is a result to keep; before, the first one aborts.
    """

    def __init__(self) -> None:
        self.requested = self.begun = False
        self._before: Any = None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested or not self.begun:
            raise KeyboardInterrupt
        self.requested = True
        err.print("\nStopping after this step with the best result so far; press Ctrl-C again to abort.")


class Display:
    """A progress bar over the steps of a run, with the longest time left and the latest scores."""

    def __init__(
        self, name: str, interrupt: Interrupt, progress: Progress, stop: StoppingRule | None = None
    ) -> None:
        self.interrupt, self.progress = interrupt, progress
        budgets = [rule for rule in stop.parts() if isinstance(rule, Budget)] if stop is not None else []
        # the step at the limit is still taken
        self.iterations = min((b.iterations + 1 for b in budgets if b.iterations is not None), default=math.inf)
        self.seconds = min((b.seconds for b in budgets if b.seconds is not None), default=math.inf)
        self.scores: dict[str, float] = {}
        self.task = progress.add_task(name, total=None, scores="", seconds_left=math.inf)

    def __call__(self, step: Step[Any]) -> str | None:
        """Show a step; answer with a reason to stop once Ctrl-C was pressed."""
        self.interrupt.begun = True
        self.scores |= step.scores  # a training's steps do not all have that of the validation
        steps = (
            int(min(step.total or math.inf, self.iterations)) if step.total or self.iterations < math.inf else 0
        )
        self.progress.update(
            self.task,
            completed=step.block * steps + min(step.index + 1, steps),
            total=step.blocks * steps or None,
            scores=_scores_text(step.loss, self.scores),
            seconds_left=self._seconds_left(step),
        )
        return "stopped by Ctrl-C" if self.interrupt.requested else None

    def _seconds_left(self, step: Step[Any]) -> float:
        """Return how long the budget of seconds lasts at most, over all slices."""
        if math.isinf(self.seconds):
            return math.inf
        return max(0.0, self.seconds - step.seconds) + self.seconds * (step.blocks - step.block - 1)


class TimeLeft(TimeRemainingColumn):
    """The time that the steps still take, or that the budget of seconds leaves, whichever is shorter."""

    def render(self, task: Task) -> Text:
        """Return the text for a task; a dash where nothing is known."""
        left = min(math.inf if task.time_remaining is None else task.time_remaining, task.fields["seconds_left"])
        text = "-:--:--" if math.isinf(left) else str(timedelta(seconds=round(left)))
        return Text(text, style="progress.remaining")


def _scores_text(loss: float, scores: Mapping[str, float]) -> str:
    shown = [f"loss {loss:.3g}"]
    if "lr_psnr" in scores:
        shown.append(f"LR-PSNR {scores['lr_psnr']:.2f} dB")
    if "val_psnr" in scores:
        shown.append(f"validation {scores['val_psnr']:.2f} dB")
    return "  ".join(shown)


@contextmanager
def display(name: str, *, quiet: bool, stop: StoppingRule | None = None) -> Iterator[Display]:
    """Show the progress of a run on standard error, and take Ctrl-C as a request to finish.

    Parameters
    ----------
    name
        What the run is called.
    quiet
        Show nothing.
    stop
        Its stopping rule: a budget says when it ends at the latest.
    """
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeLeft(),
        TextColumn("{task.fields[scores]}"),
        console=err,
        disable=quiet,
    )
    with Interrupt() as interrupt, progress:
        yield Display(name, interrupt, progress, stop)
