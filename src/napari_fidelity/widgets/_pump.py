"""The half of a run that lives in the worker thread: drives the generator and keeps what the dock will fetch.

Plain Python: nothing of Qt is touched here, so that a window closed meanwhile cannot crash a run. The dock's half
(:class:`~napari_fidelity.widgets._worker.Job`) fetches; nothing is sent to it, so that nothing can queue up there.
"""

from __future__ import annotations

import logging
import math
import re
import sys
import threading
import traceback
from collections import deque
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from napari_fidelity.core.errors import FidelityError, MemoryNeededError
from napari_fidelity.widgets._news import News, Outcome, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Work = Callable[[], Generator[News, str | None, Any]]
    State = Literal["waiting", "running", "paused", "stopping", "ended"]

log = logging.getLogger(__name__)

_COURTESY = 1.0  # seconds that a run waits at most until what must be shown has been
_LONGEST = 300  # characters of a foreign error's text that are shown


class _Aborted(BaseException):
    """Nobody waits for the result any more."""


class Pump:
    """Runs a generator of news to its end, whatever happens in it.

    Parameters
    ----------
    work
        Called in the worker to get the generator. Both are let go of when the run ends.
    name
        What the run is, for messages.
    rate
        How often a second news are made to be shown.
    """

    def __init__(self, work: Work, name: str, rate: float) -> None:
        self._work: Work | None = work
        self._name = name
        self._interval = 1.0 / rate
        self._wake = threading.Condition()
        self._begun = self._paused = self._aborted = False
        self._reason: str | None = None
        self._mail: deque[News] = deque()
        self._showing = False
        self._skipped: News | None = None
        self._shown_at = -math.inf
        self._pace = _Pace()
        self._progress = Progress()
        self._outcome: Outcome | None = None

    def __repr__(self) -> str:
        """Return the name: napari shows it when it asks whether to close with a run going on."""
        return self._name

    # ---- called by the dock's half, in the GUI thread

    @property
    def state(self) -> State:
        """What the run was last asked to do."""
        if self._reason is not None or self._aborted:
            return "stopping"
        if self._paused:
            return "paused"
        return "running" if self._begun else "waiting"

    @property
    def progress(self) -> Progress:
        """How far the run is; a new object whenever that has changed."""
        return self._progress

    @property
    def ended(self) -> bool:
        """Whether the outcome is there, and with it all news."""
        return self._outcome is not None

    def pause(self, paused: bool) -> None:
        """Let the run wait at its next news, or go on."""
        with self._wake:
            self._paused = paused
            self._wake.notify()

    def stop(self, reason: str) -> None:
        """Ask the generator to finish with what it has; it is told at every news from now on."""
        with self._wake:
            self._reason = self._reason or reason
            self._wake.notify()

    def abort(self) -> None:
        """Close the generator at its next news, without a result."""
        with self._wake:
            self._aborted = True
            self._mail.clear()
            self._wake.notify()

    def take_news(self) -> News | None:
        """Return the oldest news not taken yet; that one is asked for means that the last one has been shown."""
        with self._wake:
            self._showing = bool(self._mail)
            self._wake.notify()
            return self._mail.popleft() if self._mail else None

    def take_outcome(self) -> Outcome | None:
        """Return the outcome and let go of it."""
        outcome, self._outcome = self._outcome, None
        return outcome

    # ---- called in the worker thread

    def __call__(self) -> None:
        """Run to the end; raises nothing."""
        self._begun = True
        try:
            outcome = self._drive()
        except _Aborted:
            outcome = Outcome("stopped")
        except BaseException as error:  # a SystemExit here would end napari
            outcome = Outcome("failed", error=explained(error, self._name))
        self._work = self._skipped = None
        _give_back_memory()
        self._outcome = outcome

    def _drive(self) -> Outcome:
        if self._gate() is not None or self._work is None:
            return Outcome("stopped")
        generator = self._work()
        reply: str | None = None
        failure: FidelityError | None = None
        try:
            while True:
                try:
                    news = generator.send(reply)
                except StopIteration as end:
                    kind: Any = "failed" if failure else "done" if reply is None else "stopped"
                    outcome = Outcome(kind, end.value, failure)
                    break
                try:
                    self._offer(news)
                except Exception as error:  # what cannot be shown is not lost: the run ends with what it has
                    failure = failure or explained(error, self._name)
                    self._reason = self._reason or "its image could not be shown"
                reply = self._gate()
        finally:
            generator.close()
        try:
            self._show_skipped()
        except Exception as error:  # not worth losing the result
            log.warning("%s", explained(error, f"Showing the last step of '{self._name}'"))
        return outcome

    def _gate(self) -> str | None:
        """Wait while the run is paused; return the reason to stop for, if there is one."""
        if self._paused:
            self._show_skipped()
        began = perf_counter()
        with self._wake:
            self._wake.wait_for(lambda: not self._paused or self._reason is not None or self._aborted)
            if self._aborted:
                raise _Aborted
        self._pace.wait(perf_counter() - began)
        return self._reason

    def _offer(self, news: News) -> None:
        self._progress = self._pace.progress(news)
        if news.keep:
            self._post(news)
            if news.wait:
                with self._wake:
                    self._wake.wait_for(lambda: not (self._mail or self._showing) or self._aborted, _COURTESY)
        elif perf_counter() - self._shown_at >= self._interval and not self._untaken():
            self._skipped = None
            self._post(news)
        else:
            self._skipped = news

    def _show_skipped(self) -> None:
        """Show where the run stands, if the last news were held back."""
        news, self._skipped = self._skipped, None
        if news is not None:
            self._post(news)

    def _untaken(self) -> list[News]:
        with self._wake:
            return [news for news in self._mail if not news.keep]

    def _post(self, news: News) -> None:
        if news.make is not None:
            news = replace(news, value=news.make(), make=None)
        if not news.keep:
            self._shown_at = perf_counter()
        with self._wake:
            if self._aborted:
                return
            if not news.keep:
                for older in [other for other in self._mail if not other.keep]:
                    self._mail.remove(older)
            self._mail.append(news)


class _Pace:
    """Tells the time left from the steps since the present stage of a run began."""

    def __init__(self) -> None:
        self._first: News | None = None
        self._began = 0.0

    def wait(self, seconds: float) -> None:
        """Leave out a pause."""
        self._began += seconds

    def progress(self, news: News) -> Progress:
        """Return how far the run is."""
        now = perf_counter()
        if self._first is None or news.total != self._first.total or news.done < self._first.done:
            # Reading, loading and computing each have a pace of their own.
            self._first, self._began = News("", done=news.done, total=news.total), now
        moved = news.done - self._first.done
        left = None
        if news.total is not None and moved > 0:
            left = (now - self._began) / moved * max(news.total - news.done, 0)
        return Progress(news.done, news.total, left, news.text)


def explained(error: BaseException, name: str) -> FidelityError:
    """Return an error that can be shown to the user as it is, and let go of what the original holds.

    Parameters
    ----------
    error
        Whatever was raised.
    name
        What was being done.
    """
    message: FidelityError
    if isinstance(error, FidelityError):
        message = error
    elif _ran_out_of_memory(error):
        asked = re.search(r"allocate ([\d.]+ (?:[KMGT]i?B|bytes))", str(error))
        message = MemoryNeededError(
            f"{name} ran out of memory",
            found=f"{asked[1]} more were asked for" if asked else "",
            do="Restore the current slice only or crop the layer, choose a smaller network, close other programs, "
            "or choose another device in the plugin's settings",
        )
    else:
        # As text: a log record that held the traceback would hold every array in its frames.
        log.error("%s failed\n%s", name, "".join(traceback.format_exception(error)))
        message = FidelityError(
            f"{name} failed",
            found=_in_one_line(error),
            do="Try again; if it fails the same way, report it with the full error from the log or terminal",
        )
    _let_go(error)
    return message


def _ran_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or "torch" not in sys.modules:  # asking imports torch
        return isinstance(error, MemoryError)
    from napari_fidelity.core.device import is_out_of_memory

    return is_out_of_memory(error)


def _in_one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    text = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _let_go(error: BaseException | None) -> None:
    """Cut an error off from its tracebacks and causes: their frames hold arrays and networks."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error.__traceback__ = None
        following = error.__cause__ or error.__context__
        error.__cause__ = error.__context__ = None
        error = following


def _give_back_memory() -> None:
    """Release what operators keep for the next call, and what torch holds in reserve on a graphics card."""
    if "torch" not in sys.modules:
        return
    from napari_fidelity.core.lazy import torch
    from napari_fidelity.operators import clear_caches

    clear_caches()
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
