"""What an image formation model takes from a layer: a point-spread function or a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_fidelity.core.errors import FidelityError, OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence


def times(shape: Sequence[int]) -> str:
    """Return a size in words: ``20 × 30``."""
    return " × ".join(str(n) for n in shape)


class Background(QObject):
    """Makes one thing at a time: at once where that takes no time, in a worker where it might.

    What a worker has made is kept until something else is asked for.
    """

    ready = Signal()
    """What was asked for in vain can be had now."""

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self._asked: _Question | None = None

    def get(self, key: Hashable, name: str, make: Callable[[], Any], *, at_once: bool) -> Any:
        """Return what ``make`` returns.

        Parameters
        ----------
        key
            Tells it from other things that might be asked for.
        name
            Of the layer it is made from, for messages.
        make
            Makes it.
        at_once
            Whether to do so here and now.

        Raises
        ------
        OperatorError
            If a worker is still at it; :attr:`ready` tells when to ask again.
        """
        if at_once:
            return make()
        if self._asked is None or self._asked.key != key:
            from napari_fidelity.widgets._worker import run_later

            if self._asked is not None:
                self._asked.deleteLater()  # an answer that comes yet is not wanted any more
            self._asked = _Question(self, key)
            run_later(make, self._asked.answer, self._asked.fail, name=f"Reading '{name}'")
        asked = self._asked
        if isinstance(asked.error, FidelityError):
            raise asked.error
        if asked.error is not None:
            raise OperatorError(f"'{name}' could not be read", found=str(asked.error)) from asked.error
        if not asked.answered:
            raise OperatorError(f"'{name}' is still being read", do="Wait a moment")
        return asked.value


class _Question(QObject):
    """One thing that a worker was asked for; dies with who asked."""

    def __init__(self, asker: Background, key: Hashable) -> None:
        super().__init__(asker)
        self.key = key
        self.answered = False
        self.value: Any = None
        self.error: Exception | None = None
        self._asker = asker

    def answer(self, value: Any) -> None:
        """Take what the worker made."""
        self.answered, self.value = True, value
        self._asker.ready.emit()

    def fail(self, error: Exception) -> None:
        """Take what went wrong."""
        self.error = error
        self._asker.ready.emit()
