"""Checkpoint to predictions.jsonl: asks the model every question that has no answer yet.

Questions are asked in batches of one dataset and one resolution mode. Every finished batch is appended
before the next begins, so a killed evaluation goes on with the questions that are left.
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
from evaluation.config import Decoding
from evaluation.predictions import Prediction, PredictionFile, Question
from evaluation.questions import Case, Samples
from model.deepseek_ocr import DeepseekOCR
from model.generate import Generation, RepetitionBan, generate
from model.sampling import Sampling
from model.tokenizer import Tokenizer
from model.views import open_image, resolution_mode, view_plan

Progress = Callable[[int, int], None]
"""Called with (answers done, answers wanted) after every batch."""


@dataclass(frozen=True)
class Reader:
    """A loaded checkpoint and how it decodes."""

    model: DeepseekOCR
    tokenizer: Tokenizer
    decoding: Decoding

    @classmethod
    def load(cls, decoding: Decoding) -> Reader:
        """Loads the checkpoint onto its device; ConfigError if it is none of ours, or the device is missing."""
        directory = checkpoint_directory(decoding.checkpoint)
        device = _device(decoding.device)
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


@dataclass(frozen=True)
class _Job:
    question: Question
    key: str
    """Sample whose prompt is asked."""
    image_index: int
    """Position of the sample whose images are shown."""


def predict(
    reader: Reader,
    datasets: Mapping[str, Samples],
    cases: Mapping[str, Sequence[Case]],
    file: PredictionFile,
    batch_size: int,
    progress: Progress,
) -> None:
    """Answers all questions of all cases, the control's included, that the file does not hold yet."""
    jobs = {name: _missing(members, file) for name, members in cases.items()}
    wanted = sum(len(members) for members in jobs.values())
    done = 0
    for name, members in jobs.items():
        for batch in _batches(members, batch_size):
            file.append(_answer(reader, datasets[name], batch))
            done += len(batch)
            progress(done, wanted)


def missing_answers(cases: Mapping[str, Sequence[Case]], file: PredictionFile) -> int:
    """How many questions have no answer yet."""
    return sum(len(_missing(members, file)) for members in cases.values())


def _missing(cases: Sequence[Case], file: PredictionFile) -> list[_Job]:
    jobs = {case.question: _Job(case.question, case.key, case.index) for case in cases}
    for case in cases:
        if case.shuffled is not None and case.shuffled_index is not None:
            jobs.setdefault(case.shuffled, _Job(case.shuffled, case.key, case.shuffled_index))
    return [job for question, job in jobs.items() if question not in file.answers]


def _batches(jobs: Sequence[_Job], size: int) -> Iterator[list[_Job]]:
    by_mode: dict[str, list[_Job]] = {}
    for job in jobs:
        by_mode.setdefault(job.question.mode, []).append(job)
    for members in by_mode.values():
        for start in range(0, len(members), size):
            yield members[start : start + size]


def _answer(reader: Reader, dataset: Samples, batch: Sequence[_Job]) -> list[Prediction]:
    started = time.perf_counter()
    samples = [dataset.read(job.image_index) for job in batch]
    images = [[open_image(image) for image in sample.images] for sample in samples]
    mode = batch[0].question.mode
    resolution = resolution_mode(mode)
    device = reader.device_name
    answers = reader.answer([job.question.prompt for job in batch], images, mode)
    seconds = (time.perf_counter() - started) / len(batch)
    predictions = []
    for job, sample, answer in zip(batch, samples, answers, strict=True):
        predictions.append(
            Prediction(
                dataset=job.question.dataset,
                key=job.key,
                image_key=job.question.image_key,
                prompt=job.question.prompt,
                mode=mode,
                text=answer.text,
                finish_reason=answer.finish_reason,
                prompt_tokens=answer.prompt_tokens,
                vision_tokens=sum(len(view_plan(*size, resolution).layout()) for size in sample.image_sizes),
                generated_tokens=len(answer.token_ids),
                seconds=round(seconds, 4),
                device=device,
            )
        )
    return predictions


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"device={name} is not possible; it must be auto, cpu, cuda or cuda:N.") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(f"device={name} is not possible: torch sees no GPU here; take device=cpu.")
    return device
