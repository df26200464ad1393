"""Run, Pause and Stop with progress and messages: the foot of every dock that computes."""

from __future__ import annotations

from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING

from qtpy.compat import isalive
from qtpy.QtCore import QEvent, Qt, Signal
from qtpy.QtWidgets import QHBoxLayout, QLabel, QProgressBar, QPushButton, QSizePolicy, QVBoxLayout, QWidget

from napari_fidelity.widgets._dock import breakable
from napari_fidelity.widgets._icons import set_icon
from napari_fidelity.widgets._news import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.widgets._news import Outcome, Progress
    from napari_fidelity.widgets._worker import Job

_RUN_TIP = "Start with the settings above. The layers you have stay as they are."
_PAUSE_TIP = "Let the computer do something else for a while; the run goes on where it was."
_STOP_TIP = "End the run after this step and keep the best image so far."


class RunBar(QWidget):
    """Asks its dock for runs and follows each to its end.

    Attributes
    ----------
    run_button, pause_button, stop_button, progress, status, message
        Its parts.
    """

    run_requested = Signal()
    """The user pressed Run."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._job: Job | None = None
        self._began = 0.0
        self._ready, self._missing = True, ""
        self._doing = ""
        self._handed_to: list[QWidget | None] = []
        self.run_button = _button("&Run", _RUN_TIP, self.run_requested.emit)
        self.pause_button = _button("Pa&use", _PAUSE_TIP, self._pause)  # P opens the Plugins menu
        self.stop_button = _button("&Stop", _STOP_TIP, self._stop)
        self.progress = QProgressBar()
        self.progress.setAccessibleName("Progress of the run")
        self.progress.setToolTip("How many steps are done, of how many at most, and the time they would take.")
        self.status = _label("What the run is doing.")
        self.message = _label("What came of the last run. Select the text to copy it.")
        for button, name in ((self.run_button, "run"), (self.pause_button, "pause"), (self.stop_button, "stop")):
            set_icon(button, name)
        self._lay_out()
        self._show_state()

    def _lay_out(self) -> None:
        buttons = QHBoxLayout()
        buttons.setSpacing(4)
        for button in (self.run_button, self.pause_button, self.stop_button):
            buttons.addWidget(button, 1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(4)
        column.addLayout(buttons)
        for widget in (self.progress, self.status, self.message):
            column.addWidget(widget)
            widget.hide()

    @property
    def running(self) -> bool:
        """Whether a run is being followed."""
        return self._job is not None

    def set_ready(self, ready: bool, missing: str = "") -> None:
        """Say whether a run can be asked for.

        Parameters
        ----------
        ready
            Whether everything it needs is there.
        missing
            What is not; shown as the Run button's tooltip.
        """
        self._ready, self._missing = ready, missing
        self._show_state()

    def follow(self, job: Job) -> None:
        """Show a run from before its start to its end; the run outlives the bar."""
        self._job, self._began, self._doing = job, perf_counter(), ""
        job.progressed.connect(self._show_progress)
        job.state_changed.connect(self._show_state)
        job.ended.connect(partial(self._ended, job))
        self.show_message("")
        self.progress.setRange(0, 0)
        self._show_state()

    def show_message(self, text: str, error: bool = False) -> None:
        """Show a message in place of the last one.

        Parameters
        ----------
        text
            The message; empty to take the last one away.
        error
            Whether something went wrong: the message is marked, and napari shows it as a notification too.
        """
        self.message.setProperty("error", error)
        self._mark()
        self.message.setText(breakable(text))
        self.message.setVisible(bool(text))
        if error:
            from napari.utils.notifications import show_error

            show_error(text)

    def take_back(self, text: str) -> None:
        """Take a message away, unless another has taken its place."""
        if text and self.message.text() == breakable(text):
            self.show_message("")

    def changeEvent(self, event: QEvent) -> None:
        """Keep the mark of an error in the colour of the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.StyleChange and hasattr(self, "message"):
            self._mark()

    def _mark(self) -> None:
        """Draw a stripe beside an error: as letters, the theme's error colour could not be read on dark grey."""
        style = ""
        if self.message.property("error"):
            style = f"QLabel {{ border-left: 4px solid {_error_colour()}; padding-left: 6px; }}"
        if style != self.message.styleSheet():
            self.message.setStyleSheet(style)

    def _pause(self) -> None:
        if self._job is not None and self._job.state == "paused":
            self._job.resume()
        elif self._job is not None:
            self._job.pause()

    def _stop(self) -> None:
        if self._job is not None:
            self._job.stop()

    def _show_progress(self, progress: Progress) -> None:
        self.progress.setRange(0, progress.total or 0)
        self.progress.setValue(progress.done)
        count = f"{progress.done} of {progress.total}"
        self.progress.setFormat(f"{count} · {progress.left}" if progress.left else count)
        self._doing = progress.text
        self._show_state()

    def _show_state(self, *_: object) -> None:
        state = "ended" if self._job is None else self._job.state
        paused, stopping, ended = state == "paused", state == "stopping", state == "ended"
        focused = self.window().focusWidget()
        ours = focused in (self.pause_button, self.stop_button) or [focused] == self._handed_to
        self.pause_button.setEnabled(not (ended or stopping))
        self.stop_button.setEnabled(not (ended or stopping))
        self.run_button.setEnabled(ended and self._ready)
        self.run_button.setToolTip(_RUN_TIP if self._ready else self._missing)
        self.pause_button.setText("Res&ume" if paused else "Pa&use")
        set_icon(self.pause_button, "run" if paused else "pause")
        words = "Paused" if paused else "Stopping after this step" if stopping else ""
        self.status.setText(breakable(" · ".join(part for part in (words, self._doing) if part)) or "Starting")
        if stopping:
            self.progress.setFormat("%v of %m")
        self.status.setVisible(not ended)
        self.progress.setVisible(not ended)
        # A button that is disabled hands the keyboard's focus on; after the run it belongs to Run.
        self._handed_to = [self.window().focusWidget()] if ours else []
        if ours and ended:
            self.run_button.setFocus()

    def _ended(self, job: Job, outcome: Outcome) -> None:
        if job is self._job and isalive(self):
            self._finish(outcome)

    def _finish(self, outcome: Outcome) -> None:
        self._job = None
        self._show_state()
        if outcome.error is not None:
            self.show_message(str(outcome.error), error=True)
        elif not self.message.text():  # the dock may have said something better
            word = "Done in" if outcome.kind == "done" else "Stopped after"
            self.show_message(f"{word} {duration(perf_counter() - self._began)}.")


def _button(text: str, tooltip: str, pressed: Callable[[], object]) -> QPushButton:
    button = QPushButton(text)
    button.setToolTip(tooltip)
    # All of one width, whatever they say.
    button.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
    button.clicked.connect(lambda: pressed())
    return button


def _label(tooltip: str) -> QLabel:
    label = QLabel()
    label.setWordWrap(True)
    label.setToolTip(tooltip)
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
    return label


def _error_colour() -> str:
    from napari import current_viewer
    from napari.settings import get_settings
    from napari.utils.theme import get_theme

    viewer = current_viewer()
    return str(get_theme(viewer.theme if viewer else get_settings().appearance.theme).error.as_hex())
