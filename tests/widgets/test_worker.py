"""Runs: news, ways to end, errors in every phase, threads, viewers that close."""

from __future__ import annotations

import gc
import logging
import statistics
import threading
import time
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from qtpy.QtCore import QObject, QThreadPool, QTimer
from qtpy.QtWidgets import QWidget

from napari_fidelity.widgets._news import duration
from napari_fidelity.widgets._worker import Job, News, Outcome, Progress, run_later

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    Work = Callable[[], Generator[News, str | None, Any]]


class Ear:
    """Remembers what a job says."""

    def __init__(self, job: Job) -> None:
        self.news: list[News] = []
        self.progress: list[Progress] = []
        self.states: list[str] = []
        self.outcomes: list[Outcome] = []
        job.changed.connect(self.news.append)
        job.progressed.connect(self.progress.append)
        job.state_changed.connect(self.states.append)
        job.ended.connect(self.outcomes.append)

    @property
    def values(self) -> list[Any]:
        return [news.value for news in self.news]


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No run outlives its test: neither in the pool nor in napari's list of progress bars."""
    from napari.utils.progress import progress
    from superqt.utils import WorkerBase

    from napari_fidelity.widgets import _worker

    yield
    assert not _worker._running
    assert QThreadPool.globalInstance().waitForDone(3000)
    assert QThreadPool.globalInstance().activeThreadCount() == 0
    assert not progress._all_instances
    assert not WorkerBase._worker_set


def run(qtbot: Any, work: Work, *, name: str = "Testing", rate: float = 5.0) -> Ear:
    job = Job(work, name=name, rate=rate)
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    qtbot.wait(60)  # superqt lets go of the worker
    return ear


def quit_workers() -> None:
    """Do what napari does when it closes."""
    from superqt.utils import WorkerBase

    for worker in list(WorkerBase._worker_set):
        worker.quit()


def counting(pace: float = 0.005, most: int = 2000, seen: list[int] | None = None) -> Work:
    """Work that counts until it is stopped, and returns the reason and the count."""

    def work() -> Generator[News, str | None, Any]:
        for i in range(most):
            if seen is not None:
                seen.append(i)
            time.sleep(pace)
            reason = yield News("step", value=i, done=i + 1, total=most, text=f"Iteration {i}")
            if reason:
                return reason, i
        return "ran out", most

    return work


# ---------------------------------------------------------------- news


def test_a_normal_run(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, str]:
        yield News("note", text="Loading")
        yield News("image", value=1, keep=True)
        time.sleep(0.1)
        yield News("step", value=2, done=1, total=2, text="Iteration 0")
        yield News("step", value=3, done=2, total=2, text="Iteration 1")
        return "result"

    ear = run(qtbot, work, rate=0.5)  # slower than a busy machine is
    assert ear.outcomes == [Outcome("done", "result")]
    # The first is shown, the one to keep too, the last as well; between them the rate decides.
    assert [news.kind for news in ear.news] == ["note", "image", "step"]
    assert ear.values == [None, 1, 3]
    assert ear.progress[-1].text == "Iteration 1"
    assert (ear.progress[-1].done, ear.progress[-1].total) == (2, 2)
    assert ear.states == ["running", "ended"]


def test_news_to_keep_all_come_in_order_and_before_the_end(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, None]:
        for i in range(1000):
            yield News("kept", make=lambda i=i: i, keep=True)
            yield News("step", value=-i)

    job = Job(work, name="Testing")
    ear = Ear(job)
    order: list[str] = []
    job.changed.connect(lambda _: order.append("news"))
    job.ended.connect(lambda _: order.append("ended"))
    job.start()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert [news.value for news in ear.news if news.keep] == list(range(1000))
    assert ear.values[-1] == -999
    assert order.index("ended") == len(order) - 1


def test_values_are_made_in_the_worker_and_only_when_shown(qtbot: Any) -> None:
    threads: list[int] = []

    def work() -> Generator[News, str | None, None]:
        for i in range(100):
            time.sleep(0.005)
            yield News("image", make=lambda i=i: (threads.append(threading.get_ident()), i)[1])

    began = time.perf_counter()
    ear = run(qtbot, work, rate=10)
    assert len(threads) <= 10 * (time.perf_counter() - began) + 2
    assert threading.get_ident() not in threads
    assert ear.values[-1] == 99
    assert all(news.make is None for news in ear.news)


def test_a_busy_dock_gets_the_latest_only(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, None]:
        for i in range(120):
            time.sleep(0.005)
            made.append(i)
            yield News("image", value=i)

    made: list[int] = []
    job = Job(work, name="Testing", rate=50)
    ear = Ear(job)
    lags: list[int] = []
    job.changed.connect(lambda news: (lags.append(made[-1] - news.value), time.sleep(0.1)))
    began = time.perf_counter()
    job.start()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert len(ear.news) <= (time.perf_counter() - began) / 0.1 + 1
    assert ear.values == sorted(ear.values)
    assert ear.values[-1] == 119
    # What waits while the dock is busy is at most one piece, made since it took the one before.
    assert max(lags) <= 40


def test_a_flood_leaves_the_gui_alone(qtbot: Any) -> None:
    gaps: list[float] = []
    clock = QTimer()
    last = [time.perf_counter()]

    def tick() -> None:
        now = time.perf_counter()
        gaps.append(now - last[0])
        last[0] = now

    clock.timeout.connect(tick)
    clock.start(1)
    qtbot.wait(50)
    longest = []
    for _ in range(5):
        made: list[int] = []

        def work(made: list[int] = made) -> Generator[News, str | None, None]:
            for i in range(5000):
                yield News("image", make=lambda i=i: made.append(i), done=i, total=5000, text=f"Iteration {i}")

        gaps.clear()
        began = time.perf_counter()
        ear = run(qtbot, work)
        seconds = time.perf_counter() - began
        longest.append(max(gaps))
        assert len(made) <= 5 * seconds + 2
        assert len(ear.progress) <= 5 * seconds + 2
        assert made[-1] == 4999
    clock.stop()
    print(f"longest block of the GUI thread: {1e3 * statistics.median(longest):.0f} ms (median of {len(longest)})")
    assert statistics.median(longest) < 0.1, longest


# ---------------------------------------------------------------- pause, resume, stop


def test_stop_within_one_iteration_keeps_the_best_so_far(qtbot: Any) -> None:
    seen: list[int] = []
    job = Job(counting(0.02, seen=seen), name="Testing")
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: len(seen) > 5, timeout=10000)
    job.stop("enough")
    job.stop("twice")
    at = len(seen)
    assert job.state == "stopping"
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert len(seen) <= at + 1
    assert ear.outcomes == [Outcome("stopped", ("enough", seen[-1]))]
    assert job.state == "ended"
    assert ear.states == ["running", "stopping", "ended"]


def test_stop_before_the_start_and_before_the_first_news(qtbot: Any) -> None:
    called: list[bool] = []

    def work() -> Generator[News, str | None, None]:
        called.append(True)
        yield News("note")

    job = Job(work, name="Testing")
    ear = Ear(job)
    job.stop()
    job.start()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes == [Outcome("stopped")]
    assert not called

    def slow() -> Generator[News, str | None, str]:
        called.append(True)
        time.sleep(0.2)
        reason = yield News("note")
        return f"told: {reason}"

    job = Job(slow, name="Testing")
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: bool(called), timeout=10000)
    job.stop("early")
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes == [Outcome("stopped", "told: early")]


def test_a_generator_that_misses_the_reason_is_told_again(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, str | None]:
        for _ in range(5):
            yield News("note")  # as a reader that does not listen
            time.sleep(0.02)
        return (yield News("step"))

    job = Job(work, name="Testing")
    ear = Ear(job)
    job.start()
    qtbot.wait(40)
    job.stop("enough")
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes == [Outcome("stopped", "enough")]


def test_pause_shows_where_it_stands_and_really_waits(qtbot: Any) -> None:
    seen: list[int] = []
    job = Job(counting(seen=seen), name="Testing", rate=2)
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: len(seen) > 5, timeout=10000)
    job.pause()
    assert job.state == "paused"
    qtbot.wait(100)
    at = len(seen)
    assert ear.values[-1] == seen[-1]
    qtbot.wait(200)
    assert len(seen) == at
    job.resume()
    qtbot.waitUntil(lambda: len(seen) > at + 5, timeout=10000)
    job.pause()
    qtbot.wait(50)
    job.stop("while paused")
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes[0].value == ("while paused", seen[-1])
    assert ear.states == ["running", "paused", "running", "paused", "stopping", "ended"]


def test_pauses_do_not_count_as_running_time(qtbot: Any) -> None:
    job = Job(counting(0.01, most=200), name="Testing", rate=20)
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: bool(ear.progress and ear.progress[-1].done > 20), timeout=10000)
    job.pause()
    qtbot.wait(100)
    before = ear.progress[-1]
    qtbot.wait(1500)
    job.resume()
    qtbot.waitUntil(lambda: ear.progress[-1].done > before.done, timeout=10000)
    after = ear.progress[-1]
    job.stop()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert before.seconds_left is not None
    assert after.seconds_left is not None
    assert after.seconds_left < 2 * before.seconds_left  # with the pause it would be some five times as much


def test_each_stage_has_a_pace_of_its_own(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, None]:
        for i in range(5):
            time.sleep(0.05)
            yield News("note", done=i, total=5, text="Reading")
        yield News("note", text="Loading")
        for i in range(100):
            time.sleep(0.002)
            yield News("step", done=i, total=100, text="Iterating")

    ear = run(qtbot, work, rate=40)
    stages = {stage: [p for p in ear.progress if p.text == stage] for stage in ("Reading", "Loading", "Iterating")}
    assert stages["Iterating"][0].seconds_left is None or stages["Iterating"][0].seconds_left < 1
    assert ear.progress[-1].left == "1 s left"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "1 s"),
        (45, "45 s"),
        (80, "1 min 20 s"),
        (120, "2 min"),
        (725, "12 min"),
        (7500, "2 h 5 min"),
        (7200, "2 h"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


# ---------------------------------------------------------------- memory and threads


def test_everything_is_let_go_of(qtbot: Any, make_napari_viewer: Any) -> None:
    make_napari_viewer()
    held: list[weakref.ref[Any]] = []

    class Big:
        """Stands for a network or an image."""

    def make_work() -> Work:
        given = Big()
        held.append(weakref.ref(given))

        def work() -> Generator[News, str | None, Any]:
            inside = Big()
            held.append(weakref.ref(inside))
            for i in range(1000):
                image = Big()
                held.append(weakref.ref(image))
                reason = yield News("image", make=lambda image=image: image, done=i, total=1000)
                if reason:
                    break
                time.sleep(0.002)
            return given, inside

        return work

    done: list[str] = []
    for number, act in enumerate((Job.stop, lambda job: quit_workers(), Job.pause, lambda job: None)):
        job = Job(make_work(), name="Testing")
        job.ended.connect(lambda outcome: done.append(outcome.kind))
        job.start()
        qtbot.wait(80)
        act(job)
        qtbot.wait(80)
        quit_workers()
        qtbot.waitUntil(lambda number=number: len(done) > number, timeout=10000)
        qtbot.wait(60)
    assert done == ["stopped"] * 4
    assert len(held) > 12
    del job
    gc.collect()
    assert not [ref for ref in held if ref() is not None]


def test_two_jobs_at_once_even_on_one_core(qtbot: Any) -> None:
    pool = QThreadPool.globalInstance()
    before, filters, show = pool.maxThreadCount(), list(warnings.filters), warnings.showwarning
    pool.setMaxThreadCount(1)
    try:
        seen: tuple[list[int], list[int]] = ([], [])
        jobs = [Job(counting(seen=mine), name="Testing") for mine in seen]
        ears = [Ear(job) for job in jobs]
        for job in jobs:
            job.start()
        qtbot.waitUntil(lambda: all(len(mine) > 5 for mine in seen), timeout=10000)
        jobs[0].pause()
        third = run(qtbot, counting(most=5))
        assert third.outcomes == [Outcome("done", ("ran out", 5))]
        jobs[0].stop()
        qtbot.waitUntil(lambda: bool(ears[0].outcomes), timeout=10000)
        assert not ears[1].outcomes
        jobs[1].stop()
        qtbot.waitUntil(lambda: bool(ears[1].outcomes), timeout=10000)
        qtbot.wait(60)
    finally:
        pool.setMaxThreadCount(before)
    assert (warnings.filters, warnings.showwarning) == (filters, show)


def test_a_job_lives_on_although_nobody_holds_it(qtbot: Any) -> None:
    outcomes: list[Outcome] = []
    job = Job(counting(most=20), name="Testing")
    job.ended.connect(outcomes.append)
    job.start()
    job.start()
    del job
    gc.collect()
    qtbot.waitUntil(lambda: bool(outcomes), timeout=10000)
    qtbot.wait(60)


def test_a_listener_that_handles_events_or_raises_does_no_harm(qtbot: Any) -> None:
    from qtpy.QtWidgets import QApplication

    depth = [0, 0]

    def nested(_: News) -> None:
        depth[0] += 1
        depth[1] = max(depth)
        for _ in range(4):
            QApplication.processEvents()
            time.sleep(0.02)
        depth[0] -= 1

    job = Job(counting(most=60), name="Testing", rate=40)
    ear = Ear(job)
    job.changed.connect(nested)
    job.start()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert depth == [0, 1]
    assert ear.values[-1] == 59

    with qtbot.captureExceptions() as raised:
        job = Job(counting(most=3), name="Testing")
        ear = Ear(job)
        job.changed.connect(lambda _: 1 / 0)
        job.start()
        qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
        qtbot.wait(60)
    assert raised


# ---------------------------------------------------------------- viewers


def test_the_activity_dock_shows_the_run_and_cancels_it(qtbot: Any, make_napari_viewer: Any) -> None:
    from napari._qt.widgets.qt_progress_bar import QtLabeledProgressBar
    from napari.utils.progress import progress

    viewer = make_napari_viewer()
    dialog = viewer.window._qt_window._activity_dialog
    job = Job(counting(0.02, most=400), name="Correcting 'cells'", rate=20)
    ear = Ear(job)
    job.start()
    qtbot.waitUntil(lambda: bool(ear.progress and ear.progress[-1].done > 5), timeout=10000)
    qtbot.wait(100)
    [bar] = dialog.findChildren(QtLabeledProgressBar)
    assert bar.description_label.text() == "Correcting 'cells': "
    assert 0 < bar.qt_progress_bar.value() < bar.qt_progress_bar.maximum() == 400
    assert bar.eta_label.text().endswith("s left")
    bar.cancel_button.click()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes[0].value[0] == "stopped by the user"
    assert not progress._all_instances
    qtbot.wait(60)
    assert not dialog.findChildren(QtLabeledProgressBar)
    statuses = [item.state() for item in viewer.window._task_status_manager._tasks.values()]
    assert [str(status[2]) for status in statuses] == ["completed"]
    assert "Correcting 'cells'" in statuses[0][3]


@pytest.mark.parametrize("paused", [False, True])
def test_a_viewer_closed_during_a_run(qtbot: Any, make_napari_viewer: Any, paused: bool) -> None:
    events: list[str] = []

    def work() -> Generator[News, str | None, None]:
        try:
            for i in range(2000):
                time.sleep(0.005)
                yield News("step", value=i, done=i, total=2000)
        except GeneratorExit:
            events.append("closed")
            raise
        finally:
            events.append("finally")

    viewer = make_napari_viewer()
    dock = QWidget()
    viewer.window.add_dock_widget(dock)
    job = Job(work, name="Testing")
    ear = Ear(job)
    job.changed.connect(lambda news: dock.setWindowTitle(str(news.value)))
    job.start()
    qtbot.wait(100)
    if paused:
        job.pause()
        qtbot.wait(50)
    viewer.close()
    assert QThreadPool.globalInstance().waitForDone(1000)
    assert events == ["closed", "finally"]
    qtbot.wait(100)
    assert ear.outcomes == [Outcome("stopped")]


def test_a_run_that_ended_as_its_viewer_closed(qtbot: Any, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    job = Job(counting(most=3, pace=0), name="Testing")
    ear = Ear(job)
    job.start()
    assert QThreadPool.globalInstance().waitForDone(10000)  # nobody has fetched its result yet
    viewer.close()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes == [Outcome("stopped")]
    assert not ear.news
    qtbot.wait(60)


def test_a_run_that_starts_as_its_viewer_closes(qtbot: Any, make_napari_viewer: Any) -> None:
    viewer = make_napari_viewer()
    job = Job(counting(), name="Testing")
    ear = Ear(job)
    job.start()
    viewer.close()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes[0].kind == "stopped"
    qtbot.wait(60)
    late = run(qtbot, counting(most=3))
    assert late.outcomes[0].kind == "done"


def test_two_viewers(qtbot: Any, make_napari_viewer: Any) -> None:
    first, _second = make_napari_viewer(), make_napari_viewer()
    job = Job(counting(), name="Testing", rate=20)
    ear = Ear(job)
    job.start()
    qtbot.wait(100)
    first.close()
    qtbot.wait(150)
    job.stop()
    qtbot.waitUntil(lambda: bool(ear.outcomes), timeout=10000)
    assert ear.outcomes[0].kind == "stopped"
    qtbot.wait(60)


# ---------------------------------------------------------------- run_later


def test_run_later(qtbot: Any) -> None:
    done: list[Any] = []
    threads: list[int] = []
    run_later(lambda: (threads.append(threading.get_ident()), 42)[1], done.append, done.append, "Counting")
    qtbot.waitUntil(lambda: bool(done), timeout=10000)
    assert done == [42]
    assert threads != [threading.get_ident()]

    run_later(lambda: 1 / 0, done.append, done.append, "Dividing")
    qtbot.waitUntil(lambda: len(done) == 2, timeout=10000)
    assert "Dividing failed (found: ZeroDivisionError" in str(done[1])
    qtbot.wait(60)


def test_run_later_for_somebody_who_is_gone(qtbot: Any) -> None:
    class Asker(QObject):
        """Would fail if it was called after its end."""

        def take(self, value: object) -> None:
            self.setObjectName(str(value))

    asker = Asker()
    job = run_later(lambda: time.sleep(0.1), asker.take, asker.take)
    stopped: list[Any] = []
    other = run_later(lambda: stopped.append("ran"), stopped.append)
    other.stop()
    asker.deleteLater()
    qtbot.waitUntil(lambda: job.state == other.state == "ended", timeout=10000)
    assert stopped in ([], ["ran", None])  # not called, unless the function had begun by then
    qtbot.wait(60)


def test_run_later_shows_errors_nobody_asks_for(qtbot: Any, monkeypatch: Any) -> None:
    shown: list[str] = []
    monkeypatch.setattr("napari.utils.notifications.show_error", shown.append)
    run_later(lambda: 1 / 0, print, name="Dividing")
    qtbot.waitUntil(lambda: bool(shown), timeout=10000)
    assert shown[0].startswith("Dividing failed")
    qtbot.wait(60)


def test_nothing_is_logged_in_a_normal_run(qtbot: Any, caplog: Any) -> None:
    with caplog.at_level(logging.DEBUG, logger="napari_fidelity"):
        run(qtbot, counting(most=3))
    assert not [record for record in caplog.records if record.name.startswith("napari_fidelity")]


def test_a_run_waits_until_what_it_asks_for_has_been_shown(qtbot: Any) -> None:
    began: list[float] = []
    went_on: list[float] = []

    def work() -> Any:
        yield News("image", value=1, keep=True, wait=True)
        went_on.append(time.perf_counter())

    def show(news: News) -> None:
        time.sleep(0.2)
        began.append(time.perf_counter())

    job = Job(work, name="waiting")
    job.changed.connect(show)
    with qtbot.waitSignal(job.ended, timeout=10_000):
        job.start()
    assert went_on[0] >= began[0]
