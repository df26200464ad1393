"""Errors of runs: whatever is raised, wherever, becomes one message, and holds nothing."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from napari_fidelity.core.errors import FidelityError, MemoryNeededError, ModelFileError
from napari_fidelity.widgets._worker import Job, News, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def run(qtbot: Any, work: Callable[[], Any], *, name: str = "Testing") -> Outcome:
    job = Job(work, name=name)
    outcomes: list[Outcome] = []
    job.ended.connect(outcomes.append)
    job.start()
    qtbot.waitUntil(lambda: bool(outcomes), timeout=10000)
    qtbot.wait(60)  # superqt lets go of the worker
    [outcome] = outcomes
    return outcome


def before_the_generator(error: BaseException) -> Generator[News, str | None, None]:
    raise error


def before_the_first_news(error: BaseException) -> Generator[News, str | None, None]:
    raise error
    yield News("never")


def between_news(error: BaseException) -> Generator[News, str | None, None]:
    yield News("note")
    yield News("note")
    raise error


def in_a_value(error: BaseException) -> Generator[News, str | None, None]:
    def make() -> None:
        raise error

    yield News("image", make=make)
    yield News("note")


def when_told_to_close(error: BaseException) -> Generator[News, str | None, None]:
    try:
        yield News("image", make=lambda: 1 / 0)
    finally:
        raise error


PHASES = [before_the_generator, before_the_first_news, between_news, in_a_value, when_told_to_close]


@pytest.mark.parametrize("error", [ValueError, RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("phase", PHASES)
def test_errors_of_every_phase_become_one_message(
    qtbot: Any, caplog: Any, phase: Callable[..., Any], error: type[BaseException]
) -> None:
    outcome = run(qtbot, lambda: phase(error("shapes 3 and 4 differ")), name="Correcting 'cells'")
    assert outcome.kind == "failed"
    assert isinstance(outcome.error, FidelityError)
    text = str(outcome.error)
    assert "Correcting 'cells' failed" in text
    assert "shapes 3 and 4 differ" in text
    assert error.__name__ in text
    assert "Traceback" in caplog.text
    assert all(record.exc_info is None for record in caplog.records)
    assert outcome.error.__traceback__ is outcome.error.__context__ is outcome.error.__cause__ is None


def test_an_exhausted_iterator_is_not_taken_for_the_end(qtbot: Any) -> None:
    def work() -> Generator[News, str | None, str]:
        yield News("image", make=lambda: next(iter([])))
        return "result"

    assert run(qtbot, work).kind == "failed"


def test_an_error_of_the_last_image_does_not_cost_the_result(qtbot: Any, caplog: Any) -> None:
    def work() -> Generator[News, str | None, str]:
        yield News("note")
        yield News("image", make=lambda: 1 / 0)
        return "result"

    outcome = run(qtbot, work)
    assert outcome == Outcome("done", "result")
    assert "ZeroDivisionError" in caplog.text


def test_named_errors_come_unchanged(qtbot: Any, caplog: Any) -> None:
    error = ModelFileError("The model file is truncated", found="a.pth", do="Download it again")

    def work() -> Generator[News, str | None, None]:
        yield News("note")
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise error from inner

    outcome = run(qtbot, work)
    assert outcome.error is error
    assert str(error) == "The model file is truncated (found: a.pth). Download it again."
    assert error.__traceback__ is error.__context__ is error.__cause__ is None
    assert not caplog.records


def out_of_memory() -> list[tuple[BaseException, str]]:
    import torch

    return [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has …"), "20.00 GiB"),
        (
            RuntimeError(
                "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4000 bytes."
            ),
            "4000",
        ),
        (MemoryError("Unable to allocate 7.45 GiB for an array"), "7.45 GiB"),
        (MemoryError(), ""),
    ]


@pytest.mark.parametrize("phase", [before_the_generator, between_news, in_a_value])
@pytest.mark.parametrize("case", range(4))
def test_running_out_of_memory_comes_with_advice(qtbot: Any, phase: Callable[..., Any], case: int) -> None:
    error, asked = out_of_memory()[case]
    outcome = run(qtbot, lambda: phase(error))
    message = outcome.error
    assert isinstance(message, MemoryNeededError)
    assert asked in message.found
    assert "crop the layer" in message.do


def test_the_error_holds_no_array_of_the_run(qtbot: Any) -> None:
    class Array(np.ndarray):
        """An array that can be referred to weakly."""

    held: list[weakref.ref[Any]] = []

    def work() -> Generator[News, str | None, None]:
        array = np.zeros(10).view(Array)
        held.append(weakref.ref(array))
        yield News("note")
        try:
            array.reshape(3, 3)
        except ValueError as inner:
            kept = inner  # noqa: F841  a cycle through the frame
            raise FidelityError("That array has no such shape") from None

    outcome = run(qtbot, work)
    gc.disable()
    try:
        assert outcome.error is not None
        assert held[0]() is None  # without the garbage collector's help
    finally:
        gc.enable()
