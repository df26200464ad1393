"""A run's line in napari's activity dock."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from napari_fidelity.widgets._news import Progress


class Activity:
    """Shows progress in the activity dock of every open viewer; Cancel there is the run's Stop.

    To be used in the GUI thread only. napari handles events whenever the line changes.

    Parameters
    ----------
    name
        What the run is.
    cancel
        Called by the Cancel button.
    """

    def __init__(self, name: str, cancel: Callable[[], Any]) -> None:
        from napari import current_viewer

        self._bar: Any = None
        if current_viewer() is None:
            return
        from napari.utils.progress import cancelable_progress

        # Neither the terminal nor TQDM_DISABLE, which would keep it in napari's list for ever, concern this one.
        self._bar = cancelable_progress(total=0, desc=name, file=io.StringIO(), disable=False)
        # napari's own cancel sets a flag that only a loop over the bar would look at.
        self._bar.cancel = cancel

    def show(self, progress: Progress) -> None:
        """Show how far the run is."""
        bar = self._bar
        if bar is None or bar.disable:  # closed together with its viewer
            return
        total = progress.total or 0
        if bar.total != total:
            bar.total = total
        bar.n = progress.done
        bar.events.value(value=progress.done)
        bar.events.eta(value=progress.left)

    def close(self) -> None:
        """Take the line away."""
        bar, self._bar = self._bar, None
        if bar is not None:
            del bar.cancel
            bar.close()
