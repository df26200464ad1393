"""Runs: the only threading code of the docks.

A :class:`Job` drives a generator of :class:`News` in one of napari's thread workers. The generator may raise
anything, take any pace and hold any amount of memory: the dock stays responsive, learns how it ended, and
everything is let go of.
"""

from __future__ import annotations

import weakref
from contextlib import suppress
from functools import cache, partial
from time import perf_counter
from typing import TYPE_CHECKING, Any

from qtpy.compat import isalive
from qtpy.QtCore import QObject, QThreadPool, QTimer, Signal

from napari_fidelity.widgets._activity import Activity
from napari_fidelity.widgets._news import News, Outcome, Progress
from napari_fidelity.widgets._pump import Pump
from napari_fidelity.widgets._triton import keep_triton_out

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from qtpy.QtWidgets import QWidget

    from napari_fidelity.widgets._pump import State, Work

__all__ = ["Job", "News", "Outcome", "Progress", "run_later"]

_TICK = 25  # ms between two looks at what a run has to say
_SHARE = 0.03  # seconds of the GUI thread that one look may take, if there is much to say

_running: dict[int, Job] = {}  # a run stays alive although nobody holds it


class Job(QObject):
    """One run in a napari thread worker; holds everything the run needs and lets go of it on every way out.

    Parameters
    ----------
    work
        Called in the worker; returns a generator that yields :class:`News` often. After :meth:`stop` it is sent
        the reason at each news and should return what it has; it is closed when the viewer is.
    name
        What the run is, for the activity dock and messages: "Correcting 'cells'".
    rate
        How often a second news are shown at most.
    activity
        Whether to show the run in napari's activity dock.
    """

    changed = Signal(object)
    """The latest :class:`News`; those with ``keep`` all come, in order."""
    progressed = Signal(object)
    """The latest :class:`Progress`."""
    state_changed = Signal(str)
    """The new :attr:`state`."""
    ended = Signal(object)
    """The :class:`Outcome`, after the last news. Comes once, whatever happened; without a value if the viewer that
    was the current one at the start has been closed, even if the run had come to its end by then."""

    def __init__(self, work: Work, *, name: str, rate: float = 5.0, activity: bool = True) -> None:
        super().__init__()
        self.name = name
        self._pump: Pump | None = Pump(work, name, rate)
        self._shown_in_activity = activity
        self._activity: Activity | None = None
        self._window: weakref.ref[QWidget] | None = None
        self._interval = 1.0 / rate
        self._progressed_at = 0.0
        self._progress = self._pump.progress
        self._state: State = "waiting"
        self._started = self._fetching = False
        self._timer = QTimer(self)
        self._timer.setInterval(_TICK)
        self._timer.timeout.connect(self._fetch)

    @property
    def state(self) -> State:
        """``"waiting"``, ``"running"``, ``"paused"``, ``"stopping"`` or ``"ended"``."""
        return "ended" if self._pump is None else self._pump.state

    def start(self) -> None:
        """Start the run; a second call does nothing."""
        if self._started or self._pump is None:
            return
        from napari.qt.threading import create_worker

        self._started = True
        self._window = _current_window()
        keep_triton_out()
        _running[id(self)] = self
        if self._shown_in_activity:
            self._activity = Activity(self.name, self.stop)
        worker = create_worker(self._pump, _worker_class=_worker_class(), _ignore_errors=True)
        # A place of its own in the pool, or two long runs on two cores would keep all others waiting. The worker
        # gives it back.
        QThreadPool.globalInstance().releaseThread()
        worker.start()
        self._timer.start()

    def pause(self) -> None:
        """Wait at the next news."""
        if self._pump is not None:
            self._pump.pause(True)
            self._tell_state()

    def resume(self) -> None:
        """Go on after a pause."""
        if self._pump is not None:
            self._pump.pause(False)
            self._tell_state()

    def stop(self, reason: str = "stopped by the user") -> None:
        """Ask the run to finish with the best it has, paused or not.

        Parameters
        ----------
        reason
            Becomes the result's stop reason.
        """
        if self._pump is not None:
            self._pump.stop(reason)
            self._tell_state()

    def _tell_state(self) -> None:
        if self.state != self._state:
            self._state = self.state
            self.state_changed.emit(self._state)

    def _fetch(self) -> None:
        # Whoever listens may handle events, and napari's activity dock does, so that the timer ticks again.
        if self._pump is None or self._fetching:
            return
        self._fetching = True
        try:
            self._deliver(self._pump)
        finally:
            self._fetching = False

    def _deliver(self, pump: Pump) -> None:
        closed = self._window_closed()
        if closed:
            pump.abort()
        now = perf_counter()
        ended = pump.ended
        progress = pump.progress
        due = progress is not self._progress and (ended or now - self._progressed_at >= self._interval)
        self._tell_state()
        if due:
            self._progress, self._progressed_at = progress, now
            self.progressed.emit(progress)
        while (news := pump.take_news()) is not None:
            self.changed.emit(news)
            if perf_counter() - now > _SHARE:
                return
        if ended:
            outcome = pump.take_outcome()
            # Whoever listens would add layers to a viewer that cannot draw them any more.
            self._finish(Outcome("stopped") if closed else outcome)
        elif due and self._activity is not None:
            self._activity.show(progress)

    def _window_closed(self) -> bool:
        if self._window is None:
            return False
        window = self._window()
        return window is None or not isalive(window)

    def _finish(self, outcome: Outcome | None) -> None:
        self._timer.stop()
        self._pump = None
        _running.pop(id(self), None)
        self._close_activity()
        self._tell_state()
        self.ended.emit(outcome)
        # Here and now: left to the garbage collector, Qt's half might be deleted in any thread.
        self.deleteLater()

    def _close_activity(self) -> None:
        activity, self._activity = self._activity, None
        if activity is not None:
            activity.close()


def _current_window() -> weakref.ref[QWidget] | None:
    """Return the window that napari, too, takes a run to belong to: that of the current viewer."""
    from napari import current_viewer

    viewer = current_viewer()
    window = None if viewer is None else getattr(viewer.window, "_qt_window", None)
    return None if window is None else weakref.ref(window)


def run_later(
    function: Callable[[], Any],
    on_done: Callable[[Any], object],
    on_error: Callable[[Exception], object] | None = None,
    name: str = "Background work",
) -> Job:
    """Call a function in a worker and hand its result on in the GUI thread.

    Parameters
    ----------
    function
        What takes long.
    on_done
        Called with what it returned. Not called if its object, a widget perhaps, is gone by then.
    on_error
        Called with the error, which can be shown as it is; napari shows it if left out.
    name
        What is being done, for messages.

    Returns
    -------
    Job
        Already started; neither callback is called once it is stopped.
    """

    def work() -> Generator[News, str | None, Any]:
        yield News("note", text=name)
        return function()

    job = Job(work, name=name, activity=False)
    job.ended.connect(partial(_hand_on, on_done, on_error or _show_error))
    job.start()
    return job


def _hand_on(on_done: Callable[[Any], object], on_error: Callable[[Exception], object], outcome: Outcome) -> None:
    if outcome.kind == "done" and _is_there(on_done):
        on_done(outcome.value)
    elif outcome.error is not None and _is_there(on_error):
        on_error(outcome.error)


def _is_there(callback: Callable[..., object]) -> bool:
    owner = getattr(getattr(callback, "func", callback), "__self__", None)
    return not isinstance(owner, QObject) or isalive(owner)


def _show_error(error: Exception) -> None:
    from napari.utils.notifications import show_error

    show_error(str(error))


@cache
def _worker_class() -> type:
    """Return the kind of napari's workers that runs a pump; made here, as importing napari takes long."""
    from napari.qt.threading import FunctionWorker

    class Worker(FunctionWorker):
        """A function's worker, whose function heeds :meth:`quit` and never raises."""

        def __init__(self, pump: Pump) -> None:
            super().__init__(pump)
            self._pump = pump

        def quit(self) -> None:
            """End the run, as a viewer that closes asks for."""
            super().quit()
            self._pump.abort()

        def run(self) -> None:
            """Run the pump.

            In place of the original, which swaps the process-wide warning filters around every run: two runs
            that overlap would leave them swapped.
            """
            with suppress(RuntimeError):  # the signals may be gone when napari quits
                self.started.emit()
            self._running = True
            self._pump()
            self._running = False
            QThreadPool.globalInstance().reserveThread()
            with suppress(RuntimeError):
                self.finished.emit()
                self._finished.emit(self)

    return Worker
