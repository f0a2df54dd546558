"""What a dataset of rendered samples follows from, and the pure function that makes one of its shards."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_engine import ENGINE_VERSION
from data_engine.at_work import note_sample
from data_engine.degrade_options import DegradeOptions
from data_engine.kinds import make_renderer
from data_engine.random_stream import Draws
from data_engine.render.base import NoSampleError, Renderer
from data_engine.sample import Sample, printable, to_json
from data_engine.shards import FinishedShard, Skipped, canonical_json, write_shard


@dataclass(frozen=True)
class Plan:
    """All that a dataset follows from, and where it goes. A `job.Job`."""

    kind: str
    options: Any
    """The options dataclass of the kind."""
    samples: int
    seed: int
    shard_samples: int
    directory: Path
    degrade: DegradeOptions = field(default_factory=DegradeOptions)
    """What happens to the pictures after they are drawn; nothing by default."""

    @property
    def shards(self) -> int:
        return -(-self.samples // self.shard_samples)

    def shard_name(self, number: int) -> str:
        return f"{self.kind}-{number:06d}"

    def indices(self, number: int) -> range:
        """The sample indices of a shard."""
        start = number * self.shard_samples
        return range(start, min(start + self.shard_samples, self.samples))

    def configuration(self, number: int) -> dict[str, Any]:
        """All that decides the content of one shard, and nothing else (no path, no worker count)."""
        indices = self.indices(number)
        return {
            "engine_version": ENGINE_VERSION,
            "kind": self.kind,
            "seed": self.seed,
            "options": self.all_options(),
            "indices": [indices.start, indices.stop],
            "versions": self.versions(),
        }

    def all_options(self) -> dict[str, Any]:
        """The options of the kind, and under "degrade" those of the degradation where there is one."""
        degradation = {"degrade": asdict(self.degrade)} if self.degrade.probability > 0 else {}
        options: dict[str, Any] = _plain_numbers({**asdict(self.options), **degradation})
        return options

    def versions(self) -> dict[str, str]:
        """What besides the options decides the bytes. ConfigError when a font or file that is needed is missing."""
        return _renderer_of_this_process(self)[1]

    def manifest(self) -> dict[str, Any]:
        """What the manifest says beside the shards."""
        return {
            "options": self.all_options(),
            "versions": {"engine": str(ENGINE_VERSION), **self.versions()},
            "plan": {"samples": self.samples, "shard_samples": self.shard_samples},
        }

    def renderer(self) -> Renderer:
        """Makes the samples. ConfigError when what it needs (a font, a file) is missing."""
        renderer = make_renderer(self.kind, self.options)
        if self.degrade.probability > 0:
            from data_engine.render.degrade import DegradingRenderer

            return DegradingRenderer(renderer, self.degrade)
        return renderer

    def sample(self, number: int, index: int) -> Sample | Skipped:
        """The sample of one index: it depends on no other, whatever its shard is."""
        return make_sample(_renderer_of_this_process(self)[0], self.kind, self.seed, index)

    def make_shard(self, number: int) -> FinishedShard:
        """Make one shard: the same bytes from the same plan and number, in any process, in any order."""
        renderer, _ = _renderer_of_this_process(self)
        configuration = self.configuration(number)
        skipped: list[Skipped] = []

        def samples() -> Iterator[Sample | Skipped]:
            for index in self.indices(number):
                note_sample(index)
                sample = make_sample(renderer, self.kind, self.seed, index)
                if isinstance(sample, Skipped):
                    skipped.append(sample)
                yield sample

        record = write_shard(self.directory, self.shard_name(number), samples(), configuration)
        return FinishedShard(record, configuration, skipped)


def make_sample(renderer: Renderer, kind: str, seed: int, index: int) -> Sample | Skipped:
    """The sample of one index, or why there is none."""
    try:
        rendered = renderer.render(Draws(seed, kind, index))
    except NoSampleError as error:
        return Skipped(index, printable(error.reason), printable(error.place))
    sample = Sample(
        key=f"{kind}-{index:09d}",
        images=tuple(picture.data for picture in rendered.pictures),
        image_formats=tuple(picture.format for picture in rendered.pictures),
        image_sizes=tuple((picture.width, picture.height) for picture in rendered.pictures),
        prompt=rendered.prompt,
        response=rendered.response,
        task=kind,
        provenance={
            "seed": seed,
            "kind": kind,
            "index": index,
            "engine_version": ENGINE_VERSION,
            "renderer": rendered.renderer,
            **rendered.details,
        },
    )
    try:
        to_json(sample)
    except UnicodeEncodeError as error:  # of a text or a name that a user's file gave
        near = printable(error.object[max(0, error.start - 30) : error.end + 30])
        return Skipped(index, "text is not Unicode", f"{sample.key}, near {near}")
    return sample


def _plain_numbers(value: Any) -> Any:
    """The same with 26 for 26.0: a default in Python and a number of the command line are one option."""
    if isinstance(value, dict):
        return {key: _plain_numbers(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain_numbers(part) for part in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


_renderer: tuple[str, Renderer, dict[str, str]] | None = None


def _renderer_of_this_process(plan: Plan) -> tuple[Renderer, dict[str, str]]:
    """The renderer and its versions, made once per process: a JavaScript engine takes its time to warm up."""
    global _renderer
    identity = canonical_json([plan.kind, plan.all_options()])
    if _renderer is None or _renderer[0] != identity:
        close_renderer()
        renderer = plan.renderer()
        _renderer = (identity, renderer, renderer.versions())
    return _renderer[1:]


@atexit.register
def close_renderer() -> None:
    """Close what this process holds. V8 must be closed by hand: left to the interpreter's exit it may hang."""
    global _renderer
    if _renderer is not None:
        _renderer[1].close()
        _renderer = None
