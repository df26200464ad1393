from __future__ import annotations

import gc
import logging
from typing import Any

import pytest

from napari_fidelity.core.errors import OptionError
from napari_fidelity.core.registry import Registry, check_name


class Listener:
    def __init__(self) -> None:
        self.heard: list[str] = []

    def hear(self, name: str) -> None:
        self.heard.append(name)


def test_things_by_name(caplog: pytest.LogCaptureFixture) -> None:
    registry: Registry[int] = Registry("number")
    with caplog.at_level(logging.WARNING):
        registry.add("two", 2)
        registry.add("one", 0)
        assert not caplog.records
        registry.add("one", 1)
    assert "the number 'one' registered before is replaced" in caplog.text
    assert (registry.get("one"), registry.get("three")) == (1, None)
    assert list(registry.all()) == ["two", "one"]
    registry.all().clear()  # a copy
    assert registry.get("two") == 2
    registry.clear()
    assert registry.all() == {}


def test_who_listens_hears_once_and_is_not_kept_alive() -> None:
    registry: Registry[int] = Registry("number")
    listener, other = Listener(), Listener()
    registry.connect(listener.hear)
    registry.connect(listener.hear)
    registry.connect(other.hear)
    registry.disconnect(other.hear)
    registry.add("one", 1)
    registry.add("one", 2)
    assert (listener.heard, other.heard) == (["one", "one"], [])
    del listener
    gc.collect()
    registry.add("two", 2)


@pytest.mark.parametrize("name", ["my-net", "a", "Net_2x"])
def test_names(name: str) -> None:
    assert check_name(name, "model", ["other"]) == name


@pytest.mark.parametrize(
    "name", ["", "mine.pth", "1st", "a b", "a/b", "a,b", "a+b", "ä", "null", "true", "NaN", "a\n", 3, None]
)
def test_what_is_no_name(name: Any) -> None:
    with pytest.raises(OptionError, match="The model's name must be made of"):
        check_name(name, "model")


def test_a_name_that_is_taken() -> None:
    with pytest.raises(OptionError, match=r"'other' is the name of another model already.*another name"):
        check_name("other", "model", ["other"])
