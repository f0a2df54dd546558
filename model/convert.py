"""The released layout, in and out, bit for bit.

A checkpoint directory holds `config.json`, safetensors (one file, or several with an index) and the
tokenizer's files. The only difference between our parameters and the file's tensors: routed experts are
stacked here and single there.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from .config import DeepseekOCRConfig, ModelConfigError
from .deepseek_ocr import DeepseekOCR
from .lora import merged_parameters
from .meta import shapes_only
from .tensor_files import (
    INDEX_NAME,
    CheckpointError,
    open_tensors,
    read_shapes,
    read_tensors,
    tensor_files,
    write_tensors,
)

WEIGHTS_NAME = "model-00001-of-000001.safetensors"


def released_tensors(name: str, parameter: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The tensors of the file that one of our parameters corresponds to, as views of it."""
    stem, _, leaf = name.rpartition(".")
    if not stem.endswith(".mlp.experts"):
        yield name, parameter
        return
    for expert, weight in enumerate(parameter.unbind(0)):
        if leaf == "gate_up_proj":
            gate, up = weight.chunk(2, 0)
            yield f"{stem}.{expert}.gate_proj.weight", gate
            yield f"{stem}.{expert}.up_proj.weight", up
        else:
            yield f"{stem}.{expert}.down_proj.weight", weight


def all_released_tensors(parameters: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors of the file that named parameters correspond to, as detached views of them."""
    return {
        tensor_name: tensor
        for name, parameter in parameters
        for tensor_name, tensor in released_tensors(name, parameter.detach())
    }


def released_shapes(config: DeepseekOCRConfig) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor of the file, sorted by name as it is."""
    with shapes_only():
        return _shapes(DeepseekOCR(config))


def _shapes(model: DeepseekOCR) -> dict[str, tuple[int, ...]]:
    tensors = all_released_tensors(model.named_parameters())
    return {name: tuple(tensors[name].shape) for name in sorted(tensors)}


def load(
    directory: str | os.PathLike, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> DeepseekOCR:
    """Read a checkpoint.

    Args:
        dtype: dtype of the parameters; None keeps the file's.

    Raises:
        CheckpointError: files are missing or damaged, or tensors are missing, unknown or wrongly shaped (all
            counted, the first ten named).
        ModelConfigError: config.json is not a DeepSeek-OCR config.
    """
    directory = Path(directory)
    config = read_config(directory)
    with shapes_only():
        model = DeepseekOCR(config)
    files = tensor_files(directory)
    _check_names(directory, _shapes(model), files)
    if dtype is None:
        first = next(iter(files))
        with open_tensors(files[first]) as handle:
            dtype = handle.get_tensor(first).dtype
    model = model.to(dtype).to_empty(device=device)
    targets = all_released_tensors(model.named_parameters())
    for path in sorted(set(files.values())):
        for name, tensor in read_tensors(path, read_shapes(path)):
            targets[name].copy_(tensor)
    return model


def save(model: DeepseekOCR, directory: str | os.PathLike, dtype: torch.dtype = torch.bfloat16) -> None:
    """Write `config.json`, the weights and their index; tokenizer files are the caller's.

    Adapters (`model.lora`) are merged on the way; the model itself keeps them.

    Raises:
        CheckpointError: the target exists.
    """
    with new_directory(directory) as made:
        write_checkpoint(model, made, dtype)


@contextmanager
def new_directory(directory: str | os.PathLike) -> Iterator[Path]:
    """A temporary directory beside the target, renamed to it at the end; nothing of it remains after an error.

    Raises:
        CheckpointError: the target exists.
    """
    target = Path(directory)
    if target.exists():
        raise CheckpointError(
            f"export target '{target}' exists; choose another directory or remove it first."
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        temporary.rename(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def rewrite(source: str | os.PathLike, target: str | os.PathLike, dtype: torch.dtype | None = None) -> int:
    """Read a checkpoint, check it, and write it again; whatever else lies beside the weights is copied byte for byte.

    Args:
        dtype: of the written weights; None keeps the source's.

    Returns:
        Number of parameters.

    Raises:
        CheckpointError: the source is not a whole checkpoint, or the target exists.
        ModelConfigError: its config.json is not a DeepSeek-OCR config.
    """
    with new_directory(target) as made:
        model = load(source, dtype)
        write_checkpoint(model, made, next(model.parameters()).dtype)
        written = {path.name for path in made.iterdir()}
        for path in sorted(Path(source).iterdir()):
            if path.is_file() and path.suffix != ".safetensors" and path.name not in written:
                shutil.copyfile(path, made / path.name)
    return sum(parameter.numel() for parameter in model.parameters())


def write_checkpoint(model: DeepseekOCR, directory: Path, dtype: torch.dtype) -> None:
    """Write weights, index and config into an existing directory; no second copy of the weights is made."""
    tensors = all_released_tensors(merged_parameters(model).items())
    total = write_tensors(directory / WEIGHTS_NAME, tensors, dtype)
    index = {
        "metadata": {"total_size": total},
        "weight_map": dict.fromkeys(sorted(tensors), WEIGHTS_NAME),
    }
    (directory / INDEX_NAME).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    text = json.dumps(model.config.to_dict(), indent=2, ensure_ascii=False) + "\n"
    (directory / "config.json").write_text(text, encoding="utf-8")


def read_config(directory: str | os.PathLike) -> DeepseekOCRConfig:
    """The config of a checkpoint directory."""
    path = Path(directory) / "config.json"
    if not path.is_file():
        raise CheckpointError(
            f"'{directory}' has no config.json; it is not a checkpoint in the released layout "
            "(export one with `python -m train export=true run=... out=...`)."
        )
    try:
        source = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}.") from error
    if not isinstance(source, dict):
        raise ModelConfigError(f"'{path}' does not hold a JSON object.")
    return DeepseekOCRConfig.from_dict(source)


def _check_names(directory: Path, wanted: Mapping[str, tuple[int, ...]], files: Mapping[str, Path]) -> None:
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(set(files.values())):
        found |= read_shapes(path)
    problems = [f"missing {name}" for name in sorted(wanted.keys() - found.keys())]
    problems += [f"unknown {name}" for name in sorted(found.keys() - wanted.keys())]
    problems += [
        f"{name} is {list(found[name])} instead of {list(wanted[name])}"
        for name in sorted(wanted.keys() & found.keys())
        if wanted[name] != found[name]
    ]
    if problems:
        shown = "; ".join(problems[:10])
        raise CheckpointError(
            f"'{directory}' does not fit its config.json in {len(problems)} tensors: {shown}"
            f"{'; …' if len(problems) > 10 else ''}."
        )
