"""The command line: ``napari-fidelity``."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App, CycloptsError

    from napari_fidelity.core.errors import FidelityError

_INTERRUPTED = 130  # as in _console, which is not imported before it is needed


def build_app() -> App:
    """Return the application with all its commands."""
    from cyclopts import App

    from napari_fidelity import __version__
    from napari_fidelity.cli import (
        calibrate,
        compare,
        correct,
        demo,
        estimate_psf,
        frc,
        models,
        reconstruct,
        run,
        train,
        uncertainty,
    )

    app = App(
        name="napari-fidelity",
        help="Make a restored image answer to the data it was restored from.",
        version=__version__,
        suppress_keyboard_interrupt=False,  # main tells what became of the result
    )
    for command in (
        demo.demo,
        correct.correct,
        correct.project,
        reconstruct.reconstruct,
        uncertainty.uncertainty,
        calibrate.calibrate,
        frc.frc,
        compare.compare,
        estimate_psf.estimate_psf,
        models.models,
        models.convert,
        train.train,
        run.run,
    ):
        app.command(command)
    return app


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0: done; 1: a named error; 2: the command could not be understood; 130: interrupted (a result, if there was
    one, is written and said so).
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _run(words)  # what it imports takes a second, in which Ctrl-C may be pressed, too
    except KeyboardInterrupt:
        return _aborted(as_json="--json" in words)


def _aborted(*, as_json: bool) -> int:
    try:
        from napari_fidelity.cli._console import print_error
        from napari_fidelity.core.errors import FidelityError
    except (KeyboardInterrupt, ImportError):  # while these were being imported
        sys.stderr.write("Error: Aborted; nothing was written.\n")
    else:
        print_error(FidelityError("Aborted; nothing was written"), as_json=as_json)
    return _INTERRUPTED


def _run(words: list[str]) -> int:
    """Run the command line as :func:`main`, but for Ctrl-C."""
    from cyclopts import CycloptsError

    from napari_fidelity.cli._console import FAILED, MISUSED, json_alone, print_error
    from napari_fidelity.core.errors import FidelityError, MemoryNeededError

    as_json = "--json" in words
    try:
        with json_alone() if as_json else nullcontext():
            code = build_app()(words, result_action="return_value", exit_on_error=False, print_error=False)
    except CycloptsError as error:
        print_error(_misuse(error), as_json=as_json)
        return MISUSED
    except FidelityError as error:
        print_error(error, as_json=as_json)
        return FAILED
    except MemoryError:
        print_error(MemoryNeededError("Memory ran out", do="Crop the image first"), as_json=as_json)
        return FAILED
    except BrokenPipeError:
        return FAILED
    return code if isinstance(code, int) else 0


def _misuse(error: CycloptsError) -> FidelityError:
    """Say what was wrong with the command, and where to read on."""
    from pydantic import ValidationError

    from napari_fidelity.core.errors import OptionError
    from napari_fidelity.core.options import option_error

    command = " ".join(error.command_chain or ())
    cause = error.__cause__ or error.__context__
    what = option_error(command, cause).what if isinstance(cause, ValidationError) else str(error)
    return OptionError(what, do=f"See {' '.join(['napari-fidelity', *command.split(), '--help'])}")
