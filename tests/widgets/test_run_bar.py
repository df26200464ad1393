"""The run bar: what can be pressed when, what it says, keyboard, narrow docks and both themes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import Qt, QThreadPool
from qtpy.QtWidgets import QApplication, QPushButton, QVBoxLayout, QWidget

from napari_fidelity.core.errors import ModelFileError
from napari_fidelity.widgets._run_bar import RunBar
from napari_fidelity.widgets._worker import Job, News

if TYPE_CHECKING:
    from collections.abc import Generator

LONG = "/a/path/that/is/much/longer/than/a/dock/is/wide/my_best_model_of_all-final_version.safetensors"


def counting(most: int = 2000) -> Generator[News, str | None, str]:
    for i in range(most):
        time.sleep(0.005)
        if (yield News("step", done=i + 1, total=most, text=f"Iteration {i}")):
            return "stopped"
    return "done"


def failing() -> Generator[News, str | None, None]:
    yield News("note")
    raise ModelFileError("The model file is truncated", found=LONG, do="Download it again")


@pytest.fixture
def notifications(monkeypatch: Any) -> list[str]:
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    return shown


@pytest.fixture
def bar(qtbot: Any) -> RunBar:
    bar = RunBar()
    qtbot.addWidget(bar)
    bar.resize(300, 200)
    bar.show()
    return bar


def begin(bar: RunBar, work: Any = counting, rate: float = 20) -> Job:
    job = Job(work, name="Testing", rate=rate)
    bar.follow(job)
    job.start()
    return job


def finish(qtbot: Any, bar: RunBar) -> None:
    qtbot.waitUntil(lambda: not bar.running, timeout=10000)
    qtbot.wait(60)


def enabled(bar: RunBar) -> list[bool]:
    return [button.isEnabled() for button in (bar.run_button, bar.pause_button, bar.stop_button)]


def test_a_run_from_button_to_button(qtbot: Any, bar: RunBar) -> None:
    bar.run_requested.connect(lambda: begin(bar))
    assert enabled(bar) == [True, False, False]
    assert not bar.running
    assert not bar.progress.isVisible()
    qtbot.mouseClick(bar.run_button, Qt.MouseButton.LeftButton)
    assert bar.running
    assert enabled(bar) == [False, True, True]
    qtbot.waitUntil(lambda: "left" in bar.progress.text(), timeout=10000)
    assert bar.progress.maximum() == 2000
    assert bar.progress.text().startswith(f"{bar.progress.value()} of 2000 · ")
    assert bar.status.text().startswith("Iteration ")

    bar.pause_button.click()
    assert bar.pause_button.text() == "Res&ume"
    qtbot.wait(100)
    assert bar.status.text().startswith("Paused · Iteration ")
    bar.pause_button.click()
    assert bar.pause_button.text() == "Pa&use"

    bar.stop_button.click()
    assert enabled(bar) == [False, False, False]
    assert bar.status.text().startswith("Stopping after this step")
    finish(qtbot, bar)
    assert enabled(bar) == [True, False, False]
    assert bar.message.text().startswith("Stopped after ")
    assert not bar.progress.isVisible()
    assert not bar.status.isVisible()


def test_what_the_dock_says_at_the_end_stays(qtbot: Any, bar: RunBar) -> None:
    job = Job(lambda: counting(3), name="Testing")
    job.ended.connect(lambda _: bar.show_message("Settled after 3 iterations."))
    bar.follow(job)
    job.start()
    finish(qtbot, bar)
    assert bar.message.text() == "Settled after 3 iterations."
    begin(bar, lambda: counting(3))
    assert not bar.message.isVisible()
    finish(qtbot, bar)
    assert bar.message.text().startswith("Done in ")


def test_an_error_is_said_once_in_the_dock_and_once_by_napari(
    qtbot: Any, bar: RunBar, notifications: list[str]
) -> None:
    begin(bar, failing)
    finish(qtbot, bar)
    assert bar.message.text().replace("\u200b", "") == notifications[0]
    assert notifications == [f"The model file is truncated (found: {LONG}). Download it again."]
    assert "border-left" in bar.message.styleSheet()
    assert enabled(bar) == [True, False, False]
    begin(bar, lambda: counting(3))
    assert bar.message.styleSheet() == ""
    finish(qtbot, bar)


def test_napari_shows_the_error_as_a_notification(qtbot: Any, make_napari_viewer: Any) -> None:
    from napari.utils.notifications import notification_manager

    viewer = make_napari_viewer()
    bar = RunBar()
    viewer.window.add_dock_widget(bar)
    before = len(notification_manager.records)
    begin(bar, failing)
    finish(qtbot, bar)
    [record] = notification_manager.records[before:]
    assert str(record.severity) == "error"
    assert record.message.endswith("Download it again.")


def test_not_ready(bar: RunBar) -> None:
    tip = bar.run_button.toolTip()
    bar.set_ready(False, "Choose a layer first.")
    assert enabled(bar) == [False, False, False]
    assert bar.run_button.toolTip() == "Choose a layer first."
    bar.set_ready(True)
    assert enabled(bar) == [True, False, False]
    assert bar.run_button.toolTip() == tip


def test_the_keyboard_alone(qtbot: Any, bar: RunBar) -> None:
    asked: list[bool] = []
    bar.run_requested.connect(lambda: (asked.append(True), begin(bar)))
    with qtbot.waitActive(bar):
        bar.activateWindow()
    bar.run_button.setFocus()
    qtbot.keyClick(bar.run_button, Qt.Key.Key_Space)
    assert asked
    focused = QApplication.focusWidget()
    assert focused in (bar.pause_button, bar.stop_button)
    qtbot.keyClick(bar, Qt.Key.Key_U, Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: bar.pause_button.text() == "Res&ume", timeout=2000)
    qtbot.keyClick(bar, Qt.Key.Key_U, Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: bar.pause_button.text() == "Pa&use", timeout=2000)
    bar.stop_button.setFocus()
    qtbot.keyClick(bar, Qt.Key.Key_S, Qt.KeyboardModifier.AltModifier)
    finish(qtbot, bar)
    assert bar.run_button.hasFocus()
    qtbot.keyClick(bar, Qt.Key.Key_R, Qt.KeyboardModifier.AltModifier)
    qtbot.waitUntil(lambda: bar.running, timeout=2000)
    bar.stop_button.click()
    finish(qtbot, bar)


def test_mnemonics_do_not_clash_with_the_menus(qtbot: Any, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    menus = {action.text().partition("&")[2][:1].lower() for action in viewer.window.main_menu.actions()}
    bar = RunBar()
    qtbot.addWidget(bar)
    ours = [button.text().partition("&")[2][0].lower() for button in bar.findChildren(QPushButton)]
    assert len(ours) == len(set(ours)) == 3
    assert not menus & set(ours)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_nothing_is_clipped_at_300_pixels(
    qtbot: Any, make_napari_viewer: Any, notifications: list[str], theme: str
) -> None:
    viewer = make_napari_viewer(show=True)
    viewer.theme = theme
    box = QWidget()
    column = QVBoxLayout(box)
    bar = RunBar()
    column.addWidget(bar)
    column.addStretch()
    viewer.window.add_dock_widget(box)
    box.setFixedWidth(300)
    begin(bar)
    qtbot.waitUntil(lambda: "left" in bar.progress.text(), timeout=10000)
    check_fits(bar)
    bar.pause_button.click()
    qtbot.wait(100)
    check_fits(bar)
    bar.stop_button.click()
    finish(qtbot, bar)
    begin(bar, failing)
    finish(qtbot, bar)
    qtbot.wait(50)
    check_fits(bar)
    before = bar.message.styleSheet()
    viewer.theme = {"dark": "light", "light": "dark"}[theme]
    assert bar.message.styleSheet() != before


def check_fits(bar: RunBar) -> None:
    for widget in (bar.run_button, bar.pause_button, bar.stop_button, bar.progress, bar.status, bar.message):
        if widget.isVisible():
            right = widget.mapTo(bar.window(), widget.rect().topRight()).x()
            assert right <= bar.mapTo(bar.window(), bar.rect().topRight()).x()
            assert widget.width() >= widget.minimumSizeHint().width()
            needed = widget.heightForWidth(widget.width())
            assert widget.height() >= needed, (widget, widget.height(), needed)
    text = bar.progress.fontMetrics().horizontalAdvance(bar.progress.text())
    assert text < bar.progress.width()


def test_every_control_has_a_tooltip(bar: RunBar) -> None:
    assert all(part.toolTip() for part in bar.findChildren(QWidget) if part.parent() is bar)


def test_a_run_outlives_its_bar(qtbot: Any) -> None:
    bar = RunBar()
    outcomes: list[Any] = []
    job = begin(bar, lambda: counting(60))
    job.ended.connect(lambda outcome: outcomes.append(outcome.value))
    qtbot.wait(60)
    bar.deleteLater()
    qtbot.waitUntil(lambda: bool(outcomes), timeout=10000)
    assert outcomes == ["done"]
    assert QThreadPool.globalInstance().waitForDone(1000)
    qtbot.wait(60)
