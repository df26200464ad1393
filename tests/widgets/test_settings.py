from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from napari import settings as napari_settings
from npe2 import PluginManifest

import napari_fidelity
from napari_fidelity.widgets._settings import PAGE, PLUGIN, Settings, settings

if TYPE_CHECKING:
    from npe2._pytest_plugin import TestPluginManager

MANIFEST = Path(napari_fidelity.__file__).parent / "napari.yaml"


@pytest.fixture
def page(plugin_settings: None, npe2pm: TestPluginManager) -> Any:
    """The plugin's page in napari's preferences, in a folder of its own."""
    npe2pm.register(PluginManifest.from_file(MANIFEST))
    return getattr(napari_settings.get_plugin_settings(PLUGIN), PAGE)


def pretend(monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    found = SimpleNamespace(**{PAGE: SimpleNamespace(**values)})
    monkeypatch.setattr(napari_settings, "get_plugin_settings", lambda plugin: found)


def test_defaults_of_the_manifest_are_those_of_the_code(page: Any) -> None:
    assert settings() == Settings()
    assert settings() == Settings("auto", None, 5.0, None)


def test_changes_are_seen_at_the_next_run(page: Any, tmp_path: Path) -> None:
    page.update({"device": "cpu", "model_folder": str(tmp_path), "display_rate": 2.5, "memory_limit_gb": 1.5})
    assert settings() == Settings("cpu", tmp_path, 2.5, 1_500_000_000)
    page.memory_limit_gb = 0
    assert settings().memory_limit is None


def test_the_file_of_settings_is_read_again(page: Any) -> None:
    page.device = "cpu"
    napari_settings._clear_plugin_settings_cache()
    assert settings().device == "cpu"


@pytest.mark.parametrize(
    ("name", "value"),
    [("device", "abacus"), ("display_rate", 0.1), ("display_rate", 100), ("memory_limit_gb", -1)],
)
def test_napari_refuses_what_makes_no_sense(page: Any, name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        setattr(page, name, value)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, Settings()),
        ({"device": "abacus", "display_rate": "often", "memory_limit_gb": None, "model_folder": 7}, Settings()),
        ({"display_rate": float("nan"), "memory_limit_gb": float("inf")}, Settings()),
        ({"display_rate": 1e9}, Settings(display_rate=20.0)),
        ({"display_rate": -3}, Settings(display_rate=0.5)),
        ({"memory_limit_gb": -3}, Settings()),
        ({"model_folder": "  "}, Settings()),
        ({"model_folder": "a\0b"}, Settings()),
        ({"model_folder": "~"}, Settings(model_folder=Path.home())),
        ({"model_folder": "~no-such-user/x"}, Settings(model_folder=Path("~no-such-user/x"))),
        ({"device": ["cpu"]}, Settings()),
    ],
)
def test_nonsense_gives_the_defaults(
    values: dict[str, Any], expected: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, **values)
    assert settings() == expected


def test_without_the_plugin_registered(plugin_settings: None, caplog: pytest.LogCaptureFixture) -> None:
    assert settings() == Settings()
    assert "defaults" in caplog.text


def test_settings_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def fail(plugin: str) -> None:
        raise RuntimeError("the file is damaged")

    monkeypatch.setattr(napari_settings, "get_plugin_settings", fail)
    assert settings() == Settings()
    assert "the file is damaged" in caplog.text


def test_a_damaged_file(page: Any, tmp_path: Path) -> None:
    page.device = "cpu"
    (tmp_path / f"{PLUGIN}.yaml").write_text("fidelity:\n  device: abacus\n  display_rate: [", encoding="utf-8")
    napari_settings._clear_plugin_settings_cache()
    assert settings() == Settings()


def test_older_napari(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "napari.settings", ModuleType("napari.settings"))
    assert settings() == Settings()
