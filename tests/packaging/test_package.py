from __future__ import annotations

import importlib.metadata
import importlib.resources
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email import message_from_string
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

EVERY_DOCK = """
import importlib, pkgutil, sys, napari_fidelity.widgets as widgets
for module in pkgutil.iter_modules(widgets.__path__, "napari_fidelity.widgets."):
    before = set(sys.modules)
    importlib.import_module(module.name)
    print(module.name, *sorted(set(sys.modules) - before))
"""
# What a dock loads when it is needed, not when it is imported.
HEAVY = {"torch", "skimage", "scipy", "matplotlib", "napari", "tifffile", "imagecodecs"}
HEAVY_PARTS = {
    "methods",
    "operators",
    "stopping",
    "pipeline",
    "metrics",
    "io",
    "networks",
    "training",
    "denoisers",
}


def loaded(code: str) -> set[str]:
    """Return the top-level modules that running some code loads."""
    code += "\nimport sys; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_light_imports() -> None:
    heavy = {"torch", "skimage", "matplotlib", "qtpy", "PyQt5", "PyQt6", "PySide6", "napari"}
    told = "\n".join(f"{code}; print(*{heavy} & sys.modules.keys())" for code in LIGHT)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{told}"], capture_output=True, text=True, check=True
    )
    assert dict(zip(LIGHT, done.stdout.splitlines(), strict=True)) == dict.fromkeys(LIGHT, "")


def test_no_qt_outside_the_widgets() -> None:
    modules = loaded(EVERY_MODULE)
    assert "torch" in modules
    assert not modules & {"napari", "qtpy", "magicgui", "superqt", "PyQt5", "PyQt6", "PySide2", "PySide6"}


def test_importing_the_docks_loads_nothing_heavy() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_DOCK], capture_output=True, text=True, check=True)
    imported = [line.split() for line in done.stdout.splitlines()]
    docks = {"correct", "reconstruct", "uncertainty", "compare"}
    assert {f"napari_fidelity.widgets.{dock}" for dock in docks} <= {name for name, *_ in imported}
    heavy = HEAVY | {f"napari_fidelity.{part}" for part in HEAVY_PARTS}
    for name, *new in imported:
        found = {module for module in new if {module.partition(".")[0], ".".join(module.split(".")[:2])} & heavy}
        assert not found, f"{name} loads {sorted(found)[:5]}"


def test_the_manifests_docks_and_the_pipeline_load_no_torch() -> None:
    text = (PACKAGE / "napari.yaml").read_text(encoding="utf-8")
    modules = {line.split(": ")[1].split(":")[0] for line in text.splitlines() if "python_name:" in line}
    assert "napari_fidelity.widgets.uncertainty" in modules
    assert "torch" not in loaded(f"import {', '.join(sorted(modules))}, napari_fidelity.pipeline")


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


def test_readme_and_ci_name_the_same_debian_packages() -> None:
    readme = re.search(r"`apt-get install (.*?)`", (ROOT / "README.md").read_text(encoding="utf-8"))
    script = re.search(r"^screen=\((.*?)\)", (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M | re.S)
    assert readme is not None
    assert script is not None
    assert readme[1].split() == script[1].split()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, with the sdist beside it."""
    pytest.importorskip("hatchling", reason="hatchling is in the extra dev")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def names_in(wheel: Path) -> tuple[set[str], set[str]]:
    """Return the names of the files in the wheel and in the sdist, the latter without their common folder."""
    (sdist,) = wheel.parent.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as zipped, tarfile.open(sdist) as tarred:
        return set(zipped.namelist()), {name.partition("/")[2] for name in tarred.getnames()}


def test_wheel_and_sdist_hold_what_the_package_reads(wheel: Path) -> None:
    in_wheel, in_sdist = names_in(wheel)
    suffixes = {".yaml", ".safetensors", ".md", ".json", ".png", ".svg"}
    data = {
        path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*") if path.suffix in suffixes
    } | {"napari_fidelity/py.typed"}
    for name in ("napari.yaml", "bundled/samples/portrait-truth.png", "bundled/samples/samples.json"):
        assert f"napari_fidelity/{name}" in data
    assert {f"napari_fidelity/widgets/icons/{name}" for name in ("run.svg", "logo.png")} <= data
    assert data <= in_wheel
    assert {f"src/{name}" for name in data} | {"napari.yaml", "README.md", "LICENSE"} <= in_sdist


def test_the_wheel_holds_the_package_alone(wheel: Path) -> None:
    names = names_in(wheel)[0]
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"napari_fidelity"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".pt"))]


def test_what_napari_and_its_hub_read_of_the_wheel(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as zipped:
        texts = {
            name.rpartition("/")[2]: zipped.read(name).decode()
            for name in zipped.namelist()
            if name.endswith(("METADATA", "entry_points.txt"))
        }
    assert "[napari.manifest]\nnapari-fidelity = napari_fidelity:napari.yaml" in texts["entry_points.txt"]
    shown = message_from_string(texts["METADATA"])
    assert "Framework :: napari" in (shown.get_all("Classifier") or [])
    assert {"all", "test", "dev"} <= set(shown.get_all("Provides-Extra") or [])
    assert "## In napari" in shown.get_payload()
    needed = [line for line in shown.get_all("Requires-Dist") or [] if "extra ==" not in line]
    assert not [line for line in needed if re.match(r"(napari|pyqt|pyside)", line, re.I)]  # napari's own rule
