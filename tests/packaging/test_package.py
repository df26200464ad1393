from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import napari_fidelity

ROOT = Path(__file__).parents[2]
PACKAGE = Path(napari_fidelity.__file__).parent

LIGHT = [
    "import napari_fidelity",
    "import napari_fidelity; napari_fidelity.FineTune, napari_fidelity.Recipe, napari_fidelity.operators",
    "from napari_fidelity.cli import build_app; build_app()",
    "import napari_fidelity.pipeline",
    "import napari_fidelity.methods",
    "import napari_fidelity.stopping",
    "import napari_fidelity.training",
    "from napari_fidelity.io import list_models; list_models()",
]
EVERY_MODULE = """
import importlib, pkgutil, napari_fidelity
for module in pkgutil.walk_packages(napari_fidelity.__path__, "napari_fidelity."):
    if ".widgets" not in module.name and not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


def loaded(code: str) -> set[str]:
    """Return the top-level modules that running some code loads."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("code", LIGHT)
def test_light_imports(code: str) -> None:
    assert not loaded(code) & {"torch", "skimage", "matplotlib", "qtpy", "PyQt5", "PyQt6", "PySide6", "napari"}


def test_no_qt_outside_the_widgets() -> None:
    modules = loaded(EVERY_MODULE)
    assert "torch" in modules
    assert not modules & {"napari", "qtpy", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6"}


def test_public_names() -> None:
    for name in napari_fidelity.__all__:
        assert getattr(napari_fidelity, name) is not None
    assert set(napari_fidelity.__all__) < set(dir(napari_fidelity))
    with pytest.raises(AttributeError, match="no_such_name"):
        napari_fidelity.no_such_name  # noqa: B018


def test_version() -> None:
    assert napari_fidelity.__version__ == importlib.metadata.version("napari-fidelity")
    project = ROOT / "pyproject.toml"
    if project.exists():
        told = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
        assert told["version"] == napari_fidelity.__version__


def test_typed() -> None:
    assert (importlib.resources.files("napari_fidelity") / "py.typed").is_file()


def test_manifest() -> None:
    npe2 = pytest.importorskip("npe2", reason="npe2 is in the extra dev")
    manifest = npe2.PluginManifest.from_file(PACKAGE / "napari.yaml")
    assert manifest.name == "napari-fidelity"
    manifest.validate_imports()


def test_manifest_is_found_by_its_entry_point() -> None:
    (entry,) = importlib.metadata.entry_points(group="napari.manifest", name="napari-fidelity")
    module, _, file = entry.value.partition(":")
    assert (importlib.resources.files(module) / file).is_file()


def test_manifest_at_the_root_is_that_of_the_package() -> None:
    link = ROOT / "napari.yaml"
    assert link.is_symlink()
    assert link.resolve() == (PACKAGE / "napari.yaml").resolve()


def test_readme_and_ci_run_the_tests_alike() -> None:
    def command(path: Path) -> list[str]:
        lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
        pattern = re.compile(r"python3 -m venv \.venv.*tox run -e check")
        return [line for line in lines if pattern.match(line)]

    readme = command(ROOT / "README.md")
    assert len(readme) == 1
    assert readme == command(ROOT / ".ci" / "run")
