from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from napari_fidelity.core.errors import OutputError
from napari_fidelity.io._atomic import atomic_write, check_output

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_appears_whole_and_the_temporary_one_goes(tmp_path: Path):
    target = tmp_path / "out.tif"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".tif"
        temporary.write_bytes(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


def test_the_file_gets_the_usual_mode(tmp_path: Path):
    plain = tmp_path / "plain"
    plain.touch()
    with atomic_write(tmp_path / "out") as temporary:
        temporary.write_bytes(b"x")
    assert (tmp_path / "out").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("failure", [ValueError("no"), KeyboardInterrupt(), GeneratorExit()])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, failure: BaseException):
    target = tmp_path / "out.tif"
    target.write_bytes(b"old")
    with pytest.raises(type(failure)), atomic_write(target, overwrite=True) as temporary:
        temporary.write_bytes(b"ne")
        raise failure
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_an_output_error(tmp_path: Path):
    with pytest.raises(OutputError, match=r"could not be written: .*[Ss]pace"), atomic_write(tmp_path / "a.tif"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert not list(tmp_path.iterdir())


def test_other_write_errors_are_output_errors(tmp_path: Path):
    with pytest.raises(OutputError, match="encoder error"), atomic_write(tmp_path / "a.png"):
        raise OSError("encoder error -2")
    with pytest.raises(OutputError, match="No permission"), atomic_write(tmp_path / "a.png"):
        raise PermissionError(errno.EACCES, "Permission denied")
    assert not list(tmp_path.iterdir())


def test_an_existing_file_is_refused_and_replaced_on_request(tmp_path: Path):
    target = tmp_path / "out.tif"
    target.write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists.*overwrit"):
        check_output(target)
    with atomic_write(target, overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert target.read_bytes() == b"new"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path):
    target = tmp_path / "out.tif"
    with pytest.raises(OutputError, match="exists"), atomic_write(target) as temporary:
        temporary.write_bytes(b"mine")
        target.write_bytes(b"theirs")
    assert target.read_bytes() == b"theirs"
    assert list(tmp_path.iterdir()) == [target]


def test_missing_folder_and_folder_as_file_are_named(tmp_path: Path):
    with pytest.raises(OutputError, match="does not exist"):
        check_output(tmp_path / "no" / "out.tif")
    with pytest.raises(OutputError, match="is a folder"):
        check_output(tmp_path)


def test_a_read_only_folder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write everywhere
    with pytest.raises(OutputError, match="No permission"):
        check_output(tmp_path / "out.tif")


def test_a_link_is_written_through(tmp_path: Path):
    real = tmp_path / "real.tif"
    real.write_bytes(b"old")
    (tmp_path / "link.tif").symlink_to(real)
    with atomic_write(tmp_path / "link.tif", overwrite=True) as temporary:
        temporary.write_bytes(b"new")
    assert real.read_bytes() == b"new"
    assert (tmp_path / "link.tif").is_symlink()


def test_a_name_too_long_is_an_output_error(tmp_path: Path):
    with pytest.raises(OutputError, match="could not be written"), atomic_write(tmp_path / ("x" * 300)):
        pass
