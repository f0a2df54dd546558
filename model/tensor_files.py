"""Tensors by name from and to files, one at a time: a large source or copy never lies in memory as a whole.

Read are safetensors (one file, or several with or without an index) and PyTorch's own files (`.pth`, `.pt`,
`.bin`). Those are pickles, so they are read as plain tensors only; whatever else they ask for is refused. A TorchScript
archive (as OpenAI publishes CLIP) is opened by torch's own reader, which runs nothing of it; its tensors are taken.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

INDEX_NAME = "model.safetensors.index.json"
TORCH_SUFFIXES = (".pth", ".pt", ".bin")
FORMAT_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
REOPEN_AFTER = 64 * 2**20
"""Bytes read through one mapping of a file: mapped pages count as used memory until the mapping is closed."""


class CheckpointError(ValueError):
    """A directory that is not a checkpoint in the expected layout, or a target that cannot be written."""


def open_tensors(path: Path) -> safe_open:
    """Open one safetensors file.

    Raises:
        CheckpointError: it is damaged or another kind of file.
    """
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"'{path}' is damaged or not a safetensors file: {error}.") from error


def tensor_files(directory: Path) -> dict[str, Path]:
    """Tensor name -> the safetensors file of the directory that holds it, from the index if there is one.

    Raises:
        CheckpointError: there is none, one that the index names is missing, or the index is not an index.
    """
    index = directory / INDEX_NAME
    if index.is_file():
        names = _weight_map(index)
        missing = sorted({name for name in names.values() if not (directory / name).is_file()})
        if missing:
            raise CheckpointError(f"'{directory}' lacks {', '.join(missing)}, which its index names.")
        return {tensor: directory / name for tensor, name in names.items()}
    paths = sorted(directory.glob("*.safetensors"))
    if not paths:
        raise CheckpointError(f"'{directory}' has no safetensors file; it is not a checkpoint.")
    return {name: path for path in paths for name in read_shapes(path)}


def _weight_map(index: Path) -> dict[str, str]:
    try:
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        return {str(tensor): str(name) for tensor, name in names.items()}
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"'{index}' is not an index with a weight_map: {error!r}.") from error


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of one safetensors file, from its header alone."""
    with open_tensors(path) as handle:
        return {name: tuple(handle.get_slice(name).get_shape()) for name in handle.keys()}  # noqa: SIM118


def read_tensors(path: Path, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
    """Tensors of one safetensors file. Keep none of them: each keeps the file's mapping open, and its memory."""
    handle, read = open_tensors(path), 0
    for name in names:
        if read > REOPEN_AFTER:
            handle, read = open_tensors(path), 0
        tensor = handle.get_tensor(name)
        read += tensor.nbytes
        yield name, tensor
        del tensor


def write_tensors(path: Path, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> int:
    """Write one safetensors file, tensors sorted by name. The library's own way in wants all of them in memory.

    The format: length of the header (8 bytes, little endian), the header (JSON, padded with blanks to a multiple
    of 8), the tensors' bytes one after the other.

    Args:
        tensors: on any device, in any layout; each is cast to `dtype` when its turn comes.

    Returns:
        Bytes of all tensors.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in sorted(tensors):
        start, end = end, end + tensors[name].numel() * dtype.itemsize
        header[name] = {
            "dtype": FORMAT_NAMES[dtype],
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    encoded = json.dumps(header, separators=(",", ":")).encode("utf-8")
    encoded += b" " * (-len(encoded) % 8)
    with path.open("wb") as file:
        file.write(len(encoded).to_bytes(8, "little"))
        file.write(encoded)
        for name in sorted(tensors):
            tensor = tensors[name].to("cpu", dtype).contiguous()
            file.write(tensor.reshape(-1).view(torch.uint8).numpy().data)
        file.flush()
        os.fsync(file.fileno())
    return end


class TensorSource:
    """Names, shapes and tensors of a file or directory.

    Raises:
        CheckpointError: nothing readable is there.
    """

    def __init__(self, place: str | os.PathLike) -> None:
        self.place = Path(place)
        self._torch: dict[str, Tensor] = {}
        self._files: dict[str, Path] = {}
        if self.place.is_dir():
            if (self.place / INDEX_NAME).is_file() or any(self.place.glob("*.safetensors")):
                self._files = tensor_files(self.place)
            else:
                for path in _torch_files(self.place):
                    self._torch |= _plain_tensors(path)
        elif not self.place.is_file():
            raise CheckpointError(
                f"'{place}' does not exist; give a file of tensors or a directory with some."
            )
        elif self.place.suffix in TORCH_SUFFIXES:
            self._torch = _plain_tensors(self.place)
        else:
            self._files = dict.fromkeys(read_shapes(self.place), self.place)
        shapes = {name: tuple(tensor.shape) for name, tensor in self._torch.items()}
        for path in sorted(set(self._files.values())):
            found = read_shapes(path)  # what the files hold counts, not what an index says of them
            self._files |= dict.fromkeys(found, path)
            shapes |= found
        self.shapes: Mapping[str, tuple[int, ...]] = shapes

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, Tensor]]:
        """Tensors in the order of the files; keep none of them."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            if name in self._torch:
                yield name, self._torch[name]
            else:
                by_file.setdefault(self._files[name], []).append(name)
        for path, wanted in by_file.items():
            yield from read_tensors(path, wanted)


def _torch_files(directory: Path) -> list[Path]:
    paths = sorted(path for path in directory.iterdir() if path.suffix in TORCH_SUFFIXES)
    if not paths:
        raise CheckpointError(
            f"'{directory}' holds no tensors; expected *.safetensors or one of *{', *'.join(TORCH_SUFFIXES)}."
        )
    return paths


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.split("/")[1:2] == ["code"] for name in archive.namelist())


def _plain_tensors(path: Path) -> dict[str, Tensor]:
    """A state dict; mapped, not read, where the file's format allows it."""
    try:
        if _is_torchscript(path):
            return dict(torch.jit.load(path, map_location="cpu").state_dict())
        content: Any = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path) or None
        )
    except Exception as error:  # torch raises whatever the damaged pickle provokes
        reason = str(error).strip().split("\n")[0]
        raise CheckpointError(
            f"'{path}' is damaged or holds more than plain tensors: {reason} Save its state dict as safetensors first."
        ) from error
    for key in ("state_dict", "model"):  # the two usual wrappings
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise CheckpointError(f"'{path}' holds a {type(content).__name__}, not tensors by name.")
    other = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if other:
        raise CheckpointError(f"'{path}' holds more than tensors: {', '.join(other[:10])}.")
    return dict(content)
