"""What the docks' tests share: software rendering, and napari's own warnings let through."""

from __future__ import annotations

import gc
import os
import pickle
import shutil
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from napari_fidelity.widgets._triton import keep_triton_out

if TYPE_CHECKING:
    from collections.abc import Iterator

os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
HERE = Path(__file__).parent
# Without a screen Qt would end the whole test run; pytest-xvfb starts one where Xvfb is installed.
NO_SCREEN = sys.platform == "linux" and not (
    os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or shutil.which("Xvfb")
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of napari, vispy and Qt are theirs to mend; ours stay errors."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.filterwarnings("error:::napari_fidelity.*"))
            if NO_SCREEN:
                item.add_marker(pytest.mark.skip(reason="no screen: install xvfb (README, Set up and run)"))


@pytest.fixture(autouse=True, scope="session")
def _files_of_the_user_stay_as_they_are(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The docks remember model files from one session to the next."""
    from qtpy.QtCore import QSettings

    folder = str(tmp_path_factory.mktemp("settings"))
    QSettings.setPath(QSettings.Format.IniFormat, QSettings.Scope.UserScope, folder)


@pytest.fixture
def fresh_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The docks remember nothing from other tests."""
    from qtpy.QtCore import QSettings

    from napari_fidelity.widgets import _model_memory

    file = str(tmp_path / "docks.ini")
    monkeypatch.setattr(_model_memory, "stored", lambda: QSettings(file, QSettings.Format.IniFormat))


@pytest.fixture(autouse=True, scope="session")
def _manifests_are_parsed_once() -> Iterator[None]:
    """Each viewer reads the manifests of all plugins again, which takes as long as making it."""
    from npe2.manifest import _bases

    parse = getattr(_bases, "_load_yaml_no_duplicates", None)  # not in every version

    @cache
    def parsed(text: str) -> bytes:
        assert parse is not None
        return pickle.dumps(parse(text))

    with pytest.MonkeyPatch.context() as patch:
        if parse is not None:
            patch.setattr(_bases, parse.__name__, lambda stream: pickle.loads(parsed(_text(stream))))
        yield


def _text(stream: Any) -> str:
    text: str = stream if isinstance(stream, str) else stream.read()
    return text


@pytest.fixture(autouse=True, scope="module")
def _what_is_there_is_not_searched_for_garbage() -> None:
    """Each viewer collects garbage several times; what torch and napari hold would be walked through each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _later_tests_survive() -> Iterator[None]:
    """Tests of other folders that run after these make an optimiser with OpenGL loaded."""
    yield
    keep_triton_out()
