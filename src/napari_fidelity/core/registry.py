"""What users bring along from their own code, known by name for as long as the process lives."""

from __future__ import annotations

import json
import logging
import re
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from napari_fidelity.core.errors import OptionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

Thing = TypeVar("Thing")

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z][\w-]*", re.ASCII)


class Registry(Generic[Thing]):
    """Things by name, and who wants to hear of new ones.

    Parameters
    ----------
    what
        What they are, for messages: ``"model"``.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._things: dict[str, Thing] = {}
        self._listeners: list[weakref.WeakMethod[Callable[[str], object]]] = []

    def add(self, name: str, thing: Thing) -> None:
        """Keep a thing under a name; one that was there before is replaced, which the log says."""
        if name in self._things:
            log.warning("the %s '%s' registered before is replaced", self._what, name)
        self._things[name] = thing
        for listener in list(self._listeners):
            hear = listener()
            if hear is not None:
                hear(name)

    def get(self, name: str) -> Thing | None:
        """Return the thing of that name, if there is one."""
        return self._things.get(name)

    def all(self) -> dict[str, Thing]:
        """Return everything by name, the first registered first."""
        return dict(self._things)

    def clear(self) -> None:
        """Forget everything, as a new process would."""
        self._things.clear()

    def connect(self, listener: Callable[[str], object]) -> None:
        """Call a method with the name of each thing that is registered, in the thread that registers it.

        The method's object is not kept alive.
        """
        self.disconnect(listener)
        self._listeners.append(weakref.WeakMethod(listener))

    def disconnect(self, listener: Callable[[str], object]) -> None:
        """Do not call a method any more; those of objects that are gone are forgotten, too."""
        self._listeners = [known for known in self._listeners if known() not in (None, listener)]


OWN_ARCHITECTURES: Registry[Any] = Registry("architecture")
"""Subclasses of :class:`napari_fidelity.networks.RestorationNetwork`."""
OWN_MODELS: Registry[Any] = Registry("model")
"""Networks: private copies in evaluation mode, on the processor, each with its ``info``."""
OWN_OPERATORS: Registry[Any] = Registry("operator")
"""Image formation models: operators, or what :mod:`napari_fidelity.operators._foreign` makes of other objects."""


def check_name(name: Any, what: str, taken: Collection[str] = ()) -> str:
    """Return a name that can stand on a command line and in a recipe.

    Parameters
    ----------
    name
        What was given.
    what
        What it is to name, for messages.
    taken
        Names that mean something else already.

    Raises
    ------
    OptionError
        If it is no such name, or taken.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or _is_json(name):
        raise OptionError(
            f"The {what}'s name must be made of letters, digits, '-' and '_', and begin with a letter",
            found=repr(name),
        )
    if name in taken:
        raise OptionError(f"'{name}' is the name of another {what} already", do="Choose another name")
    return name


def _is_json(name: str) -> bool:
    """Whether a name would be read as a value where options are written out: ``true``, ``null``, ``NaN``."""
    try:
        json.loads(name)
    except ValueError:
        return False
    return True
