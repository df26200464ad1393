"""The few bytes of PNG and JPEG that decoders do not give: size, completeness and text."""

from __future__ import annotations

import logging
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_PNG_START = 8  # bytes of signature
_PNG_HEADER = 33  # signature and IHDR chunk, which always comes first
_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_KEYWORD = b"napari-fidelity\0"
_JPEG_LONGEST = 65533
_SOS, _COM, _EOI = 0xDA, 0xFE, b"\xff\xd9"
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def is_whole(raw: bytes, kind: str) -> bool:
    """Tell whether a PNG or JPEG file has its end; libjpeg fills up what is missing with gray and says nothing."""
    if kind == "png":
        return any(name == b"IEND" for name, _ in _png_chunks(raw))
    starts = [end for marker, _, end in _jpeg_segments(raw) if marker == _SOS]
    return bool(starts) and raw.find(_EOI, starts[0]) >= 0


def read_header(raw: bytes, kind: str) -> tuple[int, int, int, int]:
    """Return height, width, samples per pixel and bits per sample.

    Raises
    ------
    ValueError
        If there is no header.
    """
    if kind == "png":
        width, height, bits, colour = struct.unpack_from(">IIBB", raw, _PNG_START + 8)
        return height, width, _PNG_SAMPLES.get(colour, 4), bits
    for marker, body, _ in _jpeg_segments(raw):
        if marker in _FRAMES:
            bits, height, width, samples = struct.unpack_from(">BHHB", body)
            return height, width, samples, bits
    raise ValueError("the JPEG file has no frame header")


def insert_comment(raw: bytes, kind: str, text: str) -> bytes:
    """Return the file with an ASCII text in it: a tEXt chunk of PNG, a COM segment of JPEG (at most 64 kB)."""
    body = text.encode("ascii")
    if kind == "png":
        chunk = b"tEXt" + _KEYWORD + body
        sealed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
        return raw[:_PNG_HEADER] + sealed + raw[_PNG_HEADER:]
    if len(body) > _JPEG_LONGEST:
        log.warning("the provenance of %d bytes is too long for a JPEG file and was left out", len(body))
        return raw
    first = next(_jpeg_segments(raw))[2]  # JFIF's own segment must stay the first
    return raw[:first] + struct.pack(">BBH", 0xFF, _COM, len(body) + 2) + body + raw[first:]


def read_comments(raw: bytes, kind: str) -> Iterator[str]:
    """Yield the texts that :func:`insert_comment`, or other software, put into the file."""
    if kind == "png":
        for name, body in _png_chunks(raw):
            if name == b"tEXt" and body.startswith(_KEYWORD):
                yield body[len(_KEYWORD) :].decode("latin-1")
    else:
        for marker, body, _ in _jpeg_segments(raw):
            if marker == _COM:
                yield body.decode("latin-1")


def _png_chunks(raw: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = _PNG_START
    while at + 12 <= len(raw):
        (length,) = struct.unpack_from(">I", raw, at)
        if at + 12 + length > len(raw):
            return
        yield raw[at + 4 : at + 8], raw[at + 8 : at + 8 + length]
        at += 12 + length


def _jpeg_segments(raw: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield marker, body and end of each segment up to the first scan."""
    at, marker = 2, 0
    while at + 4 <= len(raw) and marker != _SOS:
        if raw[at] != 0xFF:
            return
        marker = raw[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        (length,) = struct.unpack_from(">H", raw, at + 2)
        yield marker, raw[at + 4 : at + 2 + length], at + 2 + length
        at += 2 + length
