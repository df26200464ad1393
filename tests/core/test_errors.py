from __future__ import annotations

import importlib
import pickle
import pkgutil

import pytest

import napari_fidelity
from napari_fidelity.core import errors
from napari_fidelity.core.errors import FidelityError


def every_error() -> list[type[FidelityError]]:
    for module in pkgutil.walk_packages(napari_fidelity.__path__, "napari_fidelity."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, queue = [], [FidelityError]
    while queue:
        cls = queue.pop()
        found.append(cls)
        queue += cls.__subclasses__()
    return found


@pytest.mark.parametrize(
    ("what", "found", "do", "text"),
    [
        ("It is broken", "", "", "It is broken."),
        ("It is broken.", "3", "", "It is broken (found: 3)."),
        ("It is broken", "3.", "Mend it", "It is broken (found: 3). Mend it."),
        ("It is broken", "", "Mend it.", "It is broken. Mend it."),
        ("It is broken", "", "Did you mean this?", "It is broken. Did you mean this?"),
    ],
)
def test_message(what: str, found: str, do: str, text: str) -> None:
    assert str(FidelityError(what, found=found, do=do)) == text


def test_every_error_is_named_and_survives_pickling() -> None:
    classes = every_error()
    assert {errors.OptionError, errors.MemoryNeededError, errors.NonFiniteError} <= set(classes)
    for cls in classes:
        # superqt's generator worker swallows RuntimeError
        assert not issubclass(cls, RuntimeError), cls
        again = pickle.loads(pickle.dumps(cls("what", found="found", do="do")))
        assert (type(again), str(again)) == (cls, "what (found: found). do.")
        assert (again.what, again.found, again.do) == ("what", "found", "do")
        assert cls.__doc__
