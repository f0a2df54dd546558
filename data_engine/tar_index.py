"""The index of one tar that somebody else wrote: its members grouped into samples, each measured and checked.

Nothing is decoded but text: an image says its size in its first bytes. What cannot be used is named with its
reason; a tar that is damaged or compressed gives no index at all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_engine.foreign import IMAGE_MEMBERS, OWN, TEXT_MEMBERS, Convention, UnusableError, convention_record
from data_engine.image_header import ImageError, image_header
from data_engine.sample import IMAGE_PLACEHOLDER
from data_engine.shard_index import FinishedShard, ShardIndex, Skipped
from data_engine.storage import Storage
from data_engine.tar_scan import Member, TarScan

VERSION = 1
"""Changes whenever the same tar and convention give another index."""
LARGEST_FILE = 256 * 1024**2
_NUMBERED = re.compile(r"(?:(\d{1,9})\.)?([a-z0-9]+)")


@dataclass
class Group:
    """The members of one key that follow one another."""

    key: str
    images: list[tuple[int | None, Member]] = field(default_factory=list)
    """With their numbers: KEY.3.png has 3."""
    texts: dict[str, Member] = field(default_factory=dict)
    members: set[str] = field(default_factory=set)
    problem: str = ""
    """Why none of it can be used, known from the names alone."""


def groups_of(scan: TarScan, unused: Counter[str]) -> Iterator[Group]:
    """The samples of a tar, whole or not. Members that are neither image nor text are counted in `unused`.

    Raises TarError and OSError.
    """
    group: Group | None = None
    for member in scan:
        if member.kind == "directory":
            continue
        key, extension = _split(member.name)
        # A name that comes again begins another sample of the same key, which is refused as such.
        if group is None or group.key != key or extension in group.members:
            if group is not None:
                yield group
            group = Group(key)
        group.members.add(extension)
        _add(group, member, extension, unused)
    if group is not None:
        yield group


def _split(name: str) -> tuple[str, str]:
    """Key and extension: a sample is what has the same directory and the same name before its first dot."""
    directory, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    return directory + slash + stem, extension.lower()


def _add(group: Group, member: Member, extension: str, unused: Counter[str]) -> None:
    found = _NUMBERED.fullmatch(extension)
    number, kind = (found[1], found[2]) if found else (None, "")
    if not _is_safe(member.name):
        group.problem = "unsafe member name"
    elif member.kind != "file":
        group.problem = f"member is a {member.kind}"
    elif group.key.rpartition("/")[2] == "":
        group.problem = "member name without a key"
    elif kind in IMAGE_MEMBERS:
        group.images.append((None if number is None else int(number), member))
    elif kind in TEXT_MEMBERS and number is None:
        group.texts[kind] = member
    elif extension.rpartition(".")[2] in (*IMAGE_MEMBERS, *TEXT_MEMBERS):
        group.problem = "dot in the key"
    else:
        unused[extension or "no extension"] += 1
        return
    if member.data is None and member.kind == "file" and member.size > LARGEST_FILE:
        group.problem = f"member larger than {LARGEST_FILE} bytes"


def _is_safe(name: str) -> bool:
    return (
        not name.startswith("/") and ".." not in name.split("/") and name.isprintable() and "\\" not in name
    )


def index_tar(tars: Storage, name: str, convention: Convention, out: Path) -> FinishedShard:
    """Read NAME.tar from its beginning to its end and write `out`/NAME.npz.

    Raises TarError when it is damaged or no plain tar, OSError as storage and disk report it.
    """
    configuration = configuration_of(tars, name, convention)
    index, skipped, unused = ShardIndex(), list[Skipped](), Counter[str]()
    seen: set[str] = set()
    with tars.open(f"{name}.tar") as file:
        scan = TarScan(file, LARGEST_FILE)
        for number, group in enumerate(groups_of(scan, unused)):
            if not (group.images or group.texts or group.problem):
                continue  # only members that nobody asks for
            try:
                if group.key in seen:
                    raise UnusableError("key appears again (members of a sample must follow one another)")
                seen.add(group.key)
                _add_sample(index, group, convention)
            except UnusableError as error:
                skipped.append(Skipped(number, str(error), f"{name}.tar: {group.key}"))
    record = index.write(
        out / f"{name}.npz",
        tar_bytes=scan.position,
        tar_sha256=scan.sha256,
        configuration=configuration,
        skipped=skipped,
        unused=dict(sorted(unused.items())),
    )
    return FinishedShard(record, configuration, skipped, dict(unused))


def configuration_of(tars: Storage, name: str, convention: Convention) -> dict[str, Any]:
    """All that the index of a tar follows from: while it is the same, the tar need not be read again."""
    identity = tars.identity(f"{name}.tar")
    return {"indexed": {"version": VERSION, "identity": identity}, **convention_record(convention)}


def _add_sample(index: ShardIndex, group: Group, convention: Convention) -> None:
    if group.problem:
        raise UnusableError(group.problem)
    text = group.texts.get(convention.text_member)
    if text is None or text.data is None:
        raise UnusableError(f"no {convention.text_member}")
    images = _ordered(group, convention)
    headers = [_header(data) for _, data in images]
    formats = tuple(name for name, _ in headers)
    sizes = tuple(size for _, size in headers)
    contents = tuple(data for _, data in images)
    try:
        sample = convention.sample(group.key, text.data, contents, formats, sizes)
    except UnusableError:
        raise
    except ValueError as error:
        raise UnusableError("JSON of another schema") from error
    if (sample.image_formats, sample.image_sizes) != (formats, sizes):
        raise UnusableError("JSON describes other images")
    if convention == OWN and sample.prompt.count(IMAGE_PLACEHOLDER) != len(images):
        raise UnusableError("number of <image> marks is not that of the images")
    for (member, data), (image_format, size) in zip(images, headers, strict=True):
        index.add_image(member.offset, data, size, image_format)
    index.end_sample(group.key, text.offset, text.data, (len(sample.prompt), len(sample.response)))


def _ordered(group: Group, convention: Convention) -> list[tuple[Member, bytes]]:
    """The images by their numbers."""
    if not group.images and convention.needs_image:
        raise UnusableError("no image")
    if group.images and convention.layout == "text":
        raise UnusableError("image where the layout has none")
    numbers = [number for number, _ in group.images]
    if len(numbers) > 1 and (None in numbers or len(set(numbers)) < len(numbers)):
        raise UnusableError("several images without numbers of their own")
    ordered = sorted(group.images, key=lambda image: image[0] or 0)
    return [(member, member.data) for _, member in ordered if member.data is not None]


def _header(data: bytes) -> tuple[str, tuple[int, int]]:
    try:
        return image_header(data)
    except ImageError as error:
        raise UnusableError(str(error).partition(":")[0]) from error
