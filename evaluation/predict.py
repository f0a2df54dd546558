"""Checkpoint to predictions: asks the model every question of this process that has no answer yet.

Questions are asked in batches of one dataset and one resolution mode. Every finished batch is appended
before the next begins, so a killed evaluation goes on with the questions that are left. Of several processes each
asks its own share (`processes`) and writes its own part (`parts`); whichever ends last joins the parts.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image

import model
from data_engine.command_line import ConfigError
from data_engine.files import sha256_of
from data_engine.sample import Sample
from evaluation.config import Decoding, EvaluationConfig
from evaluation.parts import PredictionFile, join
from evaluation.predictions import CONTEXT, Prediction
from evaluation.processes import Process, own
from evaluation.questions import Asked, Case, Samples, questions_of
from model.deepseek_ocr import DeepseekOCR
from model.generate import Generation, RepetitionBan, generate
from model.sampling import Sampling
from model.sequence import build_sequence
from model.tokenizer import Tokenizer
from model.views import ImageError, open_image, resolution_mode, view_plan

Progress = Callable[[int, int], None]
"""Called with (answers done, answers wanted) after every batch."""


@dataclass(frozen=True)
class Reader:
    """A loaded checkpoint and how it decodes."""

    model: DeepseekOCR
    tokenizer: Tokenizer
    decoding: Decoding

    @classmethod
    def load(cls, decoding: Decoding, local_rank: int = 0) -> Reader:
        """Loads the checkpoint onto its device; ConfigError if it is none of ours, or the device is missing.

        Of several processes on one machine, number `local_rank` takes the GPU of that number.
        """
        directory = checkpoint_directory(decoding.checkpoint)
        device = device_of(decoding.device, local_rank, torch.cuda.device_count())
        dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16}
        dtype = dtypes.get(decoding.dtype, torch.bfloat16 if device.type == "cuda" else torch.float32)
        try:
            loaded = model.load(directory, dtype=dtype, device=device)
            tokenizer = Tokenizer.from_directory(directory)
        except (ValueError, FileNotFoundError) as error:
            raise ConfigError(str(error)) from error
        return cls(loaded.eval(), tokenizer, decoding)

    def answer(
        self,
        prompts: list[str],
        images: list[list[Image]],
        mode: str,
        sampling: Sampling | None = None,
        on_text: Callable[[int, str], None] | None = None,
    ) -> list[Generation]:
        """Answers to one batch, greedy unless sampled; one list of images per prompt. See `model.generate`."""
        return generate(
            self.model,
            self.tokenizer,
            prompts,
            images,
            resolution_mode(mode),
            max_new_tokens=self.decoding.max_new_tokens,
            repetition_ban=self.repetition_ban,
            batch_size=len(prompts),
            sampling=sampling,
            on_text=on_text,
        )

    @property
    def device_name(self) -> str:
        """What predicts, as it stands beside the times: the name of the GPU, or "cpu"."""
        device = next(self.model.parameters()).device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type

    @property
    def context(self) -> int:
        """Tokens that question and answer have together, at most."""
        return self.model.config.language.max_position_embeddings

    @property
    def repetition_ban(self) -> RepetitionBan | None:
        """The n-gram ban, with the released code's exception for table cells; None when it is off."""
        if not self.decoding.no_repeat_ngram_size:
            return None
        cells = frozenset(self.tokenizer.encode("<td>") + self.tokenizer.encode("</td>"))
        return RepetitionBan(self.decoding.no_repeat_ngram_size, self.decoding.ngram_window, cells)


def checkpoint_directory(path: str) -> Path:
    """The directory of a checkpoint; ConfigError if there is none or it has no config.json."""
    directory = Path(path)
    if not directory.is_dir():
        raise ConfigError(
            f"checkpoint={path} is no directory; give what `python -m train export=true` wrote."
        )
    if not (directory / "config.json").is_file():
        raise ConfigError(
            f"checkpoint={path} has no config.json, so it is not an exported checkpoint; "
            "give what `python -m train export=true` wrote."
        )
    return directory


def prediction_settings(decoding: Decoding, datasets: Mapping[str, Samples]) -> dict[str, Any]:
    """All that the answers depend on, for the side file of predictions.jsonl."""
    return {
        "checkpoint": checkpoint_fingerprint(checkpoint_directory(decoding.checkpoint)),
        "max_new_tokens": decoding.max_new_tokens,
        "no_repeat_ngram_size": decoding.no_repeat_ngram_size,
        "ngram_window": decoding.ngram_window,
        "dtype": decoding.dtype,
        **{f"dataset {name}": dataset.fingerprint for name, dataset in datasets.items()},
    }


def checkpoint_fingerprint(directory: Path) -> str:
    """One sha256 over the sha256 of every file that decides what a checkpoint answers."""
    names = sorted({*directory.glob("*.safetensors"), *directory.glob("*.json")})
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in names)
    return hashlib.sha256(lines.encode()).hexdigest()


def predict(
    config: EvaluationConfig,
    sources: Mapping[str, Samples],
    cases: Mapping[str, Sequence[Case]],
    process: Process,
    progress: Progress,
) -> bool:
    """Answers the questions of all cases, the control's included, that are this process's and have no answer yet.

    Returns:
        Whether this process goes on with what comes after: always when it is alone; of several it is the one that
        finds all questions answered and joins the parts, or rank 0 where nothing was left to ask.

    Raises:
        ConfigError: the checkpoint or the device is impossible, or other settings made the answers that are there.
    """
    file = PredictionFile(Path(config.out), prediction_settings(config, sources), process.share)
    asked = questions_of(cases)
    order = [ask.question for ask in asked]
    if not _unanswered(asked, file):
        if process.share.rank == 0:
            join(file.directory, order)
        return process.share.rank == 0
    mine = _unanswered(own(asked, process.share), file)
    if mine:
        reader = Reader.load(config, process.local_rank)
        done = 0
        for batch in _batches(mine, config.batch_size):
            file.append(_answer(reader, sources[batch[0].question.dataset], batch))
            done += len(batch)
            progress(done, len(mine))
    file.reload()
    if _unanswered(asked, file):
        return False
    return join(file.directory, order) or process.share.is_whole


def _unanswered(asked: Sequence[Asked], file: PredictionFile) -> list[Asked]:
    return [ask for ask in asked if ask.question not in file.answers]


def _batches(asked: Sequence[Asked], size: int) -> Iterator[list[Asked]]:
    """At most `size` questions of one dataset and one mode, in order."""
    alike: dict[tuple[str, str], list[Asked]] = {}
    for ask in asked:
        alike.setdefault((ask.question.dataset, ask.question.mode), []).append(ask)
    for members in alike.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _answer(reader: Reader, dataset: Samples, batch: Sequence[Asked]) -> list[Prediction]:
    """Asks one batch. A question that is as long as the model's context is answered by saying so.

    Raises:
        ConfigError: the GPU's memory is too small for the batch, or an image cannot be decoded.
    """
    started = time.perf_counter()
    samples = [dataset.read(ask.image_index) for ask in batch]
    mode = batch[0].question.mode
    resolution = resolution_mode(mode)
    layouts = [[view_plan(*size, resolution).layout() for size in sample.image_sizes] for sample in samples]
    lengths = [
        len(build_sequence(reader.tokenizer, ask.question.prompt, layout))
        for ask, layout in zip(batch, layouts, strict=True)
    ]
    fitting = [i for i, length in enumerate(lengths) if length < reader.context]
    images = [_images(samples[i], batch[i]) for i in fitting]
    try:
        prompts = [batch[i].question.prompt for i in fitting]
        answers = reader.answer(prompts, images, mode) if fitting else []
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the GPU's memory is too small for {len(batch)} samples in mode {mode}: give a smaller batch_size=; "
            "the answers so far are kept."
        ) from error
    seconds = (time.perf_counter() - started) / len(batch)
    given = dict(zip(fitting, answers, strict=True))
    predictions = []
    for i, ask in enumerate(batch):
        answer = given.get(i, Generation("", (), CONTEXT, lengths[i]))
        predictions.append(
            Prediction(
                dataset=ask.question.dataset,
                key=ask.key,
                image_key=ask.question.image_key,
                prompt=ask.question.prompt,
                mode=mode,
                text=answer.text,
                finish_reason=answer.finish_reason,
                prompt_tokens=answer.prompt_tokens,
                vision_tokens=sum(len(layout) for layout in layouts[i]),
                generated_tokens=len(answer.token_ids),
                seconds=round(seconds, 4),
                device=reader.device_name,
            )
        )
    return predictions


def _images(sample: Sample, ask: Asked) -> list[Image]:
    try:
        return [open_image(image) for image in sample.images]
    except ImageError as error:
        place = f"{ask.question.dataset}/{ask.question.image_key}"
        raise ConfigError(f"an image of {place} cannot be used: {error}") from error


def device_of(name: str, local_rank: int, gpus: int) -> torch.device:
    """The device that `name` ("auto", "cpu", "cuda", "cuda:N") means for one process on a machine of `gpus` GPUs.

    Processes beyond the GPUs share them: a launcher may also show every process one GPU, its own.
    """
    if name == "auto":
        name = "cuda" if gpus else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name} is not possible; it must be auto, cpu, cuda or cuda:N.") from error
    if device.type != "cuda":
        return device
    if not gpus:
        raise ConfigError(f"device={name} is not possible: torch sees no GPU here; take device=cpu.")
    if device.index is None:
        return torch.device("cuda", local_rank % gpus)
    if device.index >= gpus:
        raise ConfigError(f"device={name} is not possible: torch sees {gpus} GPUs here, numbered from 0.")
    return device
