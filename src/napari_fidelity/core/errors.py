"""Named errors. Each says what was wrong, what was found and what to do.

None derives from :class:`RuntimeError`: superqt's generator worker swallows those, and a dock would wait for
ever for a run that has already failed.
"""

from __future__ import annotations


class FidelityError(Exception):
    """Base of every error this package raises on purpose.

    Parameters
    ----------
    what
        What was wrong, as a sentence without the final full stop.
    found
        What was found instead, if that helps.
    do
        What the user can do about it.
    """

    def __init__(self, what: str, *, found: str = "", do: str = "") -> None:
        self.what, self.found, self.do = what, found, do
        said = f"{what.rstrip('.')} (found: {found.rstrip('.')})" if found else what
        super().__init__(f"{_sentence(said)} {_sentence(do)}" if do else _sentence(said))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.found, self.do), self.__dict__


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else text.rstrip(".") + "."


def _rebuild(cls: type[FidelityError], what: str, found: str, do: str) -> FidelityError:
    return cls(what, found=found, do=do)


class OptionError(FidelityError):
    """An option has an unknown name or a value out of its range."""


class ImageError(FidelityError):
    """An image cannot be used: empty, wrong number of dimensions, unsupported dtype or axes."""


class NonFiniteError(ImageError):
    """An image or an intermediate result holds NaN or infinity."""


class ShapeError(FidelityError):
    """Two shapes that must belong to each other do not."""


class OperatorError(FidelityError):
    """An image formation model is impossible: an empty kernel, a kernel larger than the image, a bad scale."""


class ModelError(FidelityError):
    """A model file or architecture cannot be used as asked."""


class ModelFileError(ModelError):
    """A model file is missing, truncated, unsafe or not what it says it is."""


class UntrustedModelError(ModelFileError):
    """A model file would run code of its own when opened, and nobody said that it may.

    Attributes
    ----------
    path
        The file.
    sha256
        Hash of its content, as hexadecimal digits: whoever trusts it trusts this content.
    """

    def __init__(self, what: str, *, found: str = "", do: str = "", path: str = "", sha256: str = "") -> None:
        super().__init__(what, found=found, do=do)
        self.path, self.sha256 = path, sha256


class ArchitectureError(ModelError):
    """The weights and the architecture, or the network and the task, do not fit each other."""


class DeviceError(FidelityError):
    """The computing device asked for is not there."""


class MemoryNeededError(FidelityError):
    """The run would need, or needed, more memory than there is."""


class DivergedError(FidelityError):
    """An iteration left the range of finite numbers and could not be brought back."""


class RecipeError(FidelityError):
    """A recipe file cannot be read or does not fit the data."""


class OutputError(FidelityError):
    """A result could not be written: the file exists, the disk is full, the folder is missing."""


class MissingDependencyError(FidelityError):
    """An optional library is missing or broken."""
