"""What the docks' tests share: software rendering, and napari's own warnings let through."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("LIBGL_ALWAYS_SOFTWARE", "1")
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Warnings of napari, vispy and Qt are theirs to mend; ours stay errors."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
            item.add_marker(pytest.mark.filterwarnings("error:::napari_fidelity.*"))
