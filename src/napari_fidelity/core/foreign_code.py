"""What is none of this package's: code that may do anything, and objects that are told by their class."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from napari_fidelity.core.device import is_out_of_memory
from napari_fidelity.core.errors import FidelityError

if TYPE_CHECKING:
    from collections.abc import Iterator


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


@contextmanager
def errors_named(kind: type[FidelityError], name: str, given: str) -> Iterator[None]:
    """Apply somebody else's code to something, and give a name to whatever it throws.

    Errors of this package pass, and running out of memory, which has its own remedies.

    Parameters
    ----------
    kind
        The error that it becomes.
    name
        Whose code it is.
    given
        What it is applied to: ``"an image of shape (1, 1, 8, 8)"``.
    """
    try:
        with no_exit(kind, name):
            yield
    except FidelityError:
        raise
    except Exception as error:  # it raises whatever it likes
        if is_out_of_memory(error):
            raise
        said = str(error).partition("\n")[0]
        usual = isinstance(error, RuntimeError | ValueError | TypeError | AssertionError) and said
        found = said if usual else f"{type(error).__name__}: {said}".rstrip(": ")
        raise kind(f"{name} cannot be applied to {given}", found=found) from error


def is_physics(operator: object) -> bool:
    """Tell whether an operator is a physics of deepinv, without importing the library."""
    names = {f"{base.__module__.partition('.')[0]}.{base.__name__}" for base in type(operator).__mro__}
    return "deepinv.LinearPhysics" in names
