"""Running one method within another, step by step, so that it can be stopped at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import torch

    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.methods.base import Steps

    TensorStep = Step[torch.Tensor]
    Inner = Generator[TensorStep, str | None, tuple[Result[torch.Tensor], str]]


def follow(inner: Steps, show: Callable[[TensorStep], TensorStep]) -> Inner:
    """Run a method to its end within the run of another.

    Parameters
    ----------
    inner
        What the method's ``steps`` returned.
    show
        Makes of each of its steps the one that is yielded meanwhile. A run may take minutes, and nobody can stop
        one that does not yield.

    Returns
    -------
    tuple
        What the method returned, and the reason that was sent to end it, or ``""``. The method has been given the
        reason too, so its result is then that of an unfinished run.
    """
    asked, reply = "", None
    try:
        while True:
            step = inner.send(reply) if reply is not None else next(inner)
            reply = yield show(step)
            asked = asked or reply or ""
    except StopIteration as end:
        return end.value, asked
    finally:
        inner.close()
