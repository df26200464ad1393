"""A layer that an image formation model is made from: a point-spread function or a mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from napari_fidelity.core.errors import OperatorError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from numpy.typing import NDArray


class ArrayReader(QObject):
    """Reads arrays at once where they are in memory, and in a worker where they are not.

    A worker's array is kept until another one is asked for.
    """

    ready = Signal()
    """An array that was asked for in vain has been read."""

    def __init__(self) -> None:
        super().__init__()
        self._key: Hashable = None
        self._array: NDArray[Any] | None = None
        self._error: Exception | None = None

    def read(self, data: Any, key: Hashable, name: str, read: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        """Return an array.

        Parameters
        ----------
        data
            What it is read from.
        key
            Tells it from others read from the same data.
        name
            Of the layer, for messages.
        read
            Reads it.

        Raises
        ------
        OperatorError
            If it is still being read; :attr:`ready` tells when to ask again.
        """
        if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
            return read()
        if self._key != (id(data), key):
            self._key, self._array, self._error = (id(data), key), None, None
            self._start(read, self._key, name)
        if self._error is not None:
            raise OperatorError(f"'{name}' could not be read", found=str(self._error)) from self._error
        if self._array is None:
            raise OperatorError(f"'{name}' is still being read", do="Wait a moment")
        return self._array

    def _start(self, read: Callable[[], NDArray[Any]], key: Hashable, name: str) -> None:
        from napari_fidelity.widgets._worker import run_later

        self._asked = _Asked(self, key)
        run_later(read, self._asked.done, self._asked.failed, name=f"Reading '{name}'")

    def take(self, key: Hashable, array: NDArray[Any] | None, error: Exception | None) -> None:
        """Take what a worker brings, unless something else has been asked for since."""
        if key == self._key:
            self._array, self._error = array, error
            self.ready.emit()


class _Asked(QObject):
    """One question to a worker, which remembers what was asked; dies with its reader."""

    def __init__(self, reader: ArrayReader, key: Hashable) -> None:
        super().__init__(reader)
        self._reader, self._key = reader, key

    def done(self, array: NDArray[Any]) -> None:
        self._reader.take(self._key, array, None)

    def failed(self, error: Exception) -> None:
        self._reader.take(self._key, None, error)
