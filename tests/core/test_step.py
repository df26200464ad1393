from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from napari_fidelity.core.step import Record, Result, Step, drain

if TYPE_CHECKING:
    from collections.abc import Generator


class Counter:
    """A method of four steps that notes how it was ended."""

    def __init__(self) -> None:
        self.closed = False

    def steps(self) -> Generator[Step, str | None, Result[int]]:
        index, reply = -1, None
        try:
            for index in range(4):
                reply = yield Step(index, 4, 1.0, {"a": index}, lambda: torch.zeros(1))
                if reply is not None:
                    break
            return Result(index, (), reply or "done", 0.0)
        finally:
            self.closed = True


def test_drain_returns_the_result() -> None:
    assert drain(Counter().steps()) == Result(3, (), "done", 0.0)


def test_reply_ends_the_run() -> None:
    seen = []

    def look(step: Step) -> str | None:
        seen.append(step.index)
        return "enough" if step.index == 1 else None

    result = drain(Counter().steps(), look)
    assert (result.image, result.stop_reason, seen) == (1, "enough", [0, 1])


def test_failing_consumer_closes_the_method() -> None:
    counter = Counter()
    steps = counter.steps()  # held, so that the garbage collector does not close it
    with pytest.raises(KeyError):
        drain(steps, lambda step: {}["no such key"])
    assert counter.closed


def test_record_lets_the_image_go() -> None:
    step = Step(2, 5, 0.5, {"lr_psnr": 30.0}, lambda: torch.zeros(1), 1.5, block=3, blocks=4)
    assert Record.of(step) == Record(2, 0.5, 1.5, {"lr_psnr": 30.0}, 3)
    assert step.position == {}
