"""What is none of this package's: code that may do anything, and objects that are told by their class."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from napari_fidelity.core.errors import FidelityError


@contextmanager
def no_exit(error: type[FidelityError], what: str) -> Iterator[None]:
    """Run somebody else's code, and make an error of its attempt to end the program (``sys.exit``).

    That would pass every handler of errors, end a command with whatever exit code it gives, 0 among them, and
    nothing be written or said. Ctrl-C passes.

    Parameters
    ----------
    error
        The error that it becomes.
    what
        Whose code it is, at the beginning of a sentence: ``"The network in 'package.zip'"``.
    """
    try:
        yield
    except SystemExit as attempt:
        raise error(
            f"{what} tries to end the program that runs it",
            found=f"SystemExit: {attempt.code}",
            do="Take sys.exit and exit() out of its code, or use another one",
        ) from attempt


def is_physics(operator: object) -> bool:
    """Tell whether an operator is a physics of deepinv, without importing the library."""
    names = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(operator).__mro__}
    return "deepinv.LinearPhysics" in names
