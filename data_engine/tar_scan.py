"""Reading a tar from its beginning to its end, strictly: what `tarfile` and `webdataset` pass over is an error here.

Both take a broken header for the end of the archive, so the rest of a shard vanishes without a word. Here every
header's checksum is compared, the archive must end with its two empty blocks, and nothing may follow them. Long
names are understood as GNU tar (types L, K) and PAX (types x, g) write them; numbers also in base 256.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

BLOCK = 512
_EMPTY = bytes(BLOCK)
_CHUNK = 1 << 22
_LONGEST_NAME = 1 << 20
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class TarError(ValueError):
    """This is no whole, plain tar. The message says where and why, as the end of a sentence."""


@dataclass(frozen=True)
class Member:
    """One entry of a tar."""

    name: str
    offset: int
    """Where its content begins, in bytes."""
    size: int
    kind: str
    """"file", "directory", "link", "sparse file" or "special file"."""
    data: bytes | None
    """The content of a file that is not larger than the limit."""


class TarScan:
    """The members of a tar, and the SHA-256 of all its bytes once they were gone through.

    Args:
        largest: content of more bytes is hashed and not kept.
    """

    def __init__(self, file: BinaryIO, largest: int) -> None:
        self._file = file
        self._largest = largest
        self._digest = hashlib.sha256()
        self.position = 0
        """Bytes read."""

    @property
    def sha256(self) -> str:
        """Of the bytes read so far, in hexadecimal."""
        return self._digest.hexdigest()

    def __iter__(self) -> Iterator[Member]:
        """Raises TarError, and OSError as the storage reports it."""
        long_name: str | None = None
        long_size: int | None = None
        sparse = False
        while (header := self._header()) is not None:
            kind, size = header[156:157], _number(header[124:136])
            if size < 0:
                raise TarError(f"the header at byte {self.position - BLOCK} has a negative size")
            if kind in b"xgLK" and kind:
                if size > _LONGEST_NAME:
                    raise TarError(f"the extended header at byte {self.position - BLOCK} has {size} bytes")
                content = self._content(size, keep=True) or b""
                if kind == b"L":
                    long_name = _text(content.rstrip(b"\0"))
                elif kind == b"x":
                    records = _pax_records(content)
                    long_name = records.get("path", long_name)
                    long_size = int(records["size"]) if records.get("size", "").isdigit() else long_size
                    sparse = any(record.startswith("GNU.sparse.") for record in records)
                continue
            name = _name(header) if long_name is None else long_name
            size = size if long_size is None else long_size
            if kind == b"S":
                sparse = True
            if kind in b"123456":
                size = 0  # links, devices and directories have no content, whatever their header says
            offset = self.position
            plain = kind in b"0\x007" and not name.endswith("/")
            data = self._content(size, keep=plain and not sparse and size <= self._largest)
            yield Member(name, offset, size, _kind(kind, plain, sparse), data)
            long_name, long_size, sparse = None, None, False

    def _header(self) -> bytes | None:
        """The next header; None at the end of the archive."""
        start = self.position
        header = self._read(BLOCK)
        if start == 0:
            for magic, compression in _COMPRESSED.items():
                if header.startswith(magic):
                    raise TarError(
                        f"it is compressed with {compression}, and what is compressed cannot be read by position: "
                        "unpack it (not the files in it) into a plain .tar"
                    )
        if not header:
            raise TarError(f"it ends at byte {start} without the two empty blocks that end a tar: it was cut")
        if len(header) < BLOCK:
            raise TarError(f"it ends inside the header at byte {start}: it was cut")
        if header == _EMPTY:
            self._check_end()
            return None
        try:
            stated = _number(header[148:156])
        except TarError:
            stated = -1
        if stated != sum(header) - sum(header[148:156]) + 8 * 32:
            raise TarError(f"the header at byte {start} is damaged: its checksum does not match")
        return header

    def _check_end(self) -> None:
        start = self.position
        empty = self._read(BLOCK) == _EMPTY
        while empty and (chunk := self._read(_CHUNK)):
            empty = not chunk.strip(b"\0")
        if not empty:
            raise TarError(
                f"after the end of the archive, at byte {start}, it goes on: it is cut, damaged, or several tars one "
                "after the other"
            )

    def _content(self, size: int, keep: bool) -> bytes | None:
        """Content and padding of a member; the content, if it is to be kept."""
        start, padding = self.position, -size % BLOCK
        if keep:
            data = self._read(size)
            whole = len(data) == size and len(self._read(padding)) == padding
        else:
            data, left = None, size + padding
            while left and (chunk := self._read(min(left, _CHUNK))):
                left -= len(chunk)
            whole = not left
        if not whole:
            raise TarError(f"it ends inside the member at byte {start}: it was cut")
        return data

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self._digest.update(data)
        self.position += len(data)
        return data


def _kind(kind: bytes, plain: bool, sparse: bool) -> str:
    if sparse:
        return "sparse file"
    if plain:
        return "file"
    if kind in b"12":
        return "link"
    return "directory" if kind in b"50\x007" else "special file"


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: base 256, for what octal digits cannot hold
        value = int.from_bytes(field[1:], "big") + ((field[0] & 0x7F) << (8 * (len(field) - 1)))
        return value if field[0] & 0x40 == 0 else -1
    digits = field.split(b"\0", 1)[0].strip()
    try:
        return int(digits, 8) if digits else 0
    except ValueError as error:
        raise TarError(f"a header holds {digits!r} where a number should be") from error


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0]
    if prefix and header[257:263] == b"ustar\0":
        name = prefix + b"/" + name
    return _text(name)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")


def _pax_records(content: bytes) -> dict[str, str]:
    """The "LENGTH KEY=VALUE\\n" records of an extended header."""
    records: dict[str, str] = {}
    while content.rstrip(b"\0"):
        digits, _, _ = content.partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        record = content[len(digits) + 1 : length]
        key, equals, value = record.partition(b"=")
        if length > len(content) or not equals or not value.endswith(b"\n"):
            raise TarError("an extended header is damaged")
        records[_text(key)] = _text(value[:-1])
        content = content[length:]
    return records
