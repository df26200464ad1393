"""Files written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from napari_fidelity.core.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


def check_output(path: str | os.PathLike[str], *, overwrite: bool = False) -> Path:
    """Refuse early what :func:`atomic_write` would refuse after the work is done.

    Parameters
    ----------
    path
        The file to be written.
    overwrite
        Whether a file that exists may be replaced.

    Returns
    -------
    pathlib.Path
        The path with links resolved and made absolute.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, the path is a folder, or its folder is missing or read-only.
    """
    try:
        return _checked(path, overwrite)
    except OSError as error:  # a name too long, a folder that may not be looked into
        raise _output_error(path, error) from error


def _checked(path: str | os.PathLike[str], overwrite: bool) -> Path:
    target = Path(path).expanduser().resolve()
    if target.is_dir():
        raise OutputError(f"'{path}' is a folder", do="Give the name of a file")
    if not target.parent.is_dir():
        raise OutputError(f"The folder of '{path}' does not exist", do=f"Create '{target.parent}' first")
    if target.exists() and not overwrite:
        raise OutputError(f"'{path}' exists", do="Choose another name or allow overwriting (--overwrite)")
    if target.exists() and not target.is_file():
        raise OutputError(f"'{path}' is not an ordinary file", do="Choose another name")
    if not os.access(target.parent, os.W_OK):
        raise OutputError(f"No permission to write in '{target.parent}'", do="Choose another folder")
    return target


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Give the path of a temporary file that becomes ``path`` if the block ends well.

    The temporary file lies in the same folder and has the same suffix; it is removed if the block fails or is
    interrupted, and what stood at ``path`` before stays untouched. Only the writing belongs into the block:
    every :class:`OSError` in it counts as a failure to write.

    Parameters
    ----------
    path
        The file to be written.
    overwrite
        Whether a file that exists may be replaced.

    Yields
    ------
    pathlib.Path
        An empty file to write to, by name.

    Raises
    ------
    OutputError
        As :func:`check_output`, and if the disk is full or the writing fails.
    """
    target = check_output(path, overwrite=overwrite)
    temporary = target.with_name(f".{target.stem[:100]}-{secrets.token_hex(4)}{target.suffix}")
    try:
        # Not tempfile.mkstemp: its files are private, and the result should have the user's usual mode.
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        yield temporary
        _flush_to_disk(temporary)
        check_output(path, overwrite=overwrite)  # someone may have written it meanwhile
        os.replace(temporary, target)
    except OSError as error:
        raise _output_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _flush_to_disk(path: Path) -> None:
    # A rename that reaches the disk before the data would leave an empty file after a power cut.
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def _output_error(path: str | os.PathLike[str], error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return OutputError(
            f"'{path}' could not be written: {reason}",
            do="Free some space or choose another disk; nothing was left",
        )
    if error.errno in _DENIED:
        return OutputError(f"No permission to write '{path}': {reason}", do="Choose another folder")
    return OutputError(f"'{path}' could not be written: {reason}", do="Choose another file name or folder")
