"""The command line: ``napari-fidelity``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from napari_fidelity.cli._console import FAILED, INTERRUPTED, err, print_error
from napari_fidelity.core.errors import FidelityError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App


def build_app() -> App:
    """Return the application with all its commands."""
    from cyclopts import App

    from napari_fidelity import __version__
    from napari_fidelity.cli import compare, correct, demo, models, run, train

    app = App(
        name="napari-fidelity",
        help="Make a restored image answer to the data it was restored from.",
        version=__version__,
    )
    for command in (
        demo.demo,
        correct.correct,
        correct.project,
        compare.compare,
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
        code = build_app()(words, result_action="return_value")
    except FidelityError as error:
        print_error(error, as_json="--json" in words)
        return FAILED
    except KeyboardInterrupt:
        err.print("Aborted; nothing was written.")
        return INTERRUPTED
    except BrokenPipeError:
        return FAILED
    return code if isinstance(code, int) else 0
