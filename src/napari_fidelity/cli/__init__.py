"""The command line: ``napari-fidelity``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_fidelity.cli._console import FAILED, INTERRUPTED, MISUSED, print_error
from napari_fidelity.core.errors import FidelityError, MemoryNeededError, OptionError
from napari_fidelity.core.options import option_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App, CycloptsError


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
    from cyclopts import CycloptsError

    words = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in words
    try:
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
    except KeyboardInterrupt:
        print_error(FidelityError("Aborted; nothing was written"), as_json=as_json)
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    return code if isinstance(code, int) else 0


def _misuse(error: CycloptsError) -> FidelityError:
    """Say what was wrong with the command, and where to read on."""
    from pydantic import ValidationError

    command = " ".join(error.command_chain or ())
    cause = error.__cause__ or error.__context__
    what = option_error(command, cause).what if isinstance(cause, ValidationError) else str(error)
    return OptionError(what, do=f"See {' '.join(['napari-fidelity', *command.split(), '--help'])}")
