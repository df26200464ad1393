"""Running another method inside a map, step by step, so that it can be stopped at any time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_fidelity.core.errors import DivergedError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import torch

    from napari_fidelity.core.step import Result, Step
    from napari_fidelity.methods.base import Steps

    TensorStep = Step[torch.Tensor]
    Inner = Generator[TensorStep, str | None, tuple[Result[torch.Tensor], str]]


def follow(inner: Steps, show: Callable[[TensorStep], TensorStep]) -> Inner:
    """Run a method to its end within the run of a map.

    Parameters
    ----------
    inner
        What the method's ``steps`` returned.
    show
        Makes of each of its steps the one that the map yields meanwhile: with the number of the pass that is being
        made and the map so far. A pass may take minutes, and nobody can stop a run that does not yield.

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


def tuned_network(result: Result[torch.Tensor]) -> torch.nn.Module:
    """Return the network that a fine-tuning ended with.

    Raises
    ------
    DivergedError
        If there is none, because its last step diverged.
    """
    if result.network is None:
        raise DivergedError(
            "The fine-tuning diverged, so there is no tuned network to look at",
            do="Choose a smaller learning rate, or look at the network as it was trained (method apply)",
        )
    network: torch.nn.Module = result.network
    return network
