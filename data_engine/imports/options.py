"""What a user may set with import=: `options.KEY=...`. Light: read for --help, too."""

from __future__ import annotations

from dataclasses import dataclass, field

from data_engine.errors import ConfigError, in_range, one_of

FORMATS = ("jsonl", "coco", "arrow", "parquet", "pairs", "text")
OBJECT_TASKS = ("detect", "locate")


@dataclass
class ImportOptions:
    """The user's own data: JSONL, COCO, Parquet, `datasets` saved on a disk, images beside texts, plain text."""

    images: str | None = None
    """Directory that image paths start from; null: where the file lies that names them."""
    image: str | None = None
    """Field or column with the image, or with a list of images; null: images, or image."""
    prompt: str | None = None
    """Field or column with the prompt; null: prompt, or question."""
    response: str | None = None
    """Field or column with the response; null: response, answer, markdown, text or caption, the first there is."""
    task: str | None = None
    """Field or column with the task; null: task."""
    key: str | None = None
    """Field or column with a name that is kept in the provenance; null: key, or id."""
    units: str = "pixels"
    """What boxes are given in: pixels, grid (0 to 999) or shares (0 to 1)."""
    captions: str = "all"
    """COCO captions: all (a sample per caption) or first (one per image)."""
    objects: list[str] = field(default_factory=lambda: list(OBJECT_TASKS))
    """COCO boxes: detect (one sample with all objects of an image), locate (one per category of an image)."""
    split: str | None = None
    """arrow: the split of a saved DatasetDict, train for example. parquet: that of the files' names."""
    characters: int = 20_000
    """text: a file is cut into pieces of at most so many characters, at the end of a paragraph or line."""

    def __post_init__(self) -> None:
        one_of("options.units", self.units, ("pixels", "grid", "shares"))
        one_of("options.captions", self.captions, ("all", "first"))
        in_range("options.characters", self.characters, 100, 1_000_000)
        if not self.objects:
            raise ConfigError(f"options.objects needs at least one of {', '.join(OBJECT_TASKS)}.")
        for task in self.objects:
            one_of("options.objects", task, OBJECT_TASKS)
