"""Reading one page: its text while it is being written, and its grounded boxes drawn over it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from data_engine.command_line import ConfigError
from data_engine.files import atomic_write_bytes
from data_engine.markup import GRID, parse_grounded
from evaluation.config import ReadConfig
from evaluation.modes import modes_for
from evaluation.predict import Reader
from model.sampling import Sampling
from model.views import ImageError, open_image

COLOURS = ("#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e", "#8c564b", "#e377c2", "#17becf")


def read_page(config: ReadConfig, on_text: Callable[[str], None]) -> str:
    """The text that the checkpoint reads on one page; with `config.draw` also a picture of its boxes.

    Args:
        on_text: called with every piece of the text as soon as it is known.

    Raises:
        ConfigError: there is no such page or checkpoint, or a key is impossible; before anything is computed.
    """
    modes = modes_for(config.checkpoint, {"default": config.mode} if config.mode else {})
    try:
        image = open_image(config.read)
    except ImageError as error:
        raise ConfigError(f"read={config.read}: {error}") from error
    if config.draw and not Path(config.draw).resolve().parent.is_dir():
        raise ConfigError(f"draw={config.draw} cannot be written: its directory does not exist.")
    sampling = None
    if config.temperature:
        sampling = Sampling(config.temperature, config.top_p, config.seed)
    reader = Reader.load(config)
    answers = reader.answer(
        [config.prompt], [[image]], modes.default, sampling, lambda _, piece: on_text(piece)
    )
    text = answers[0].text
    if config.draw:
        write_boxes(image, text, Path(config.draw))
    return text


def write_boxes(image: Image.Image, text: str, path: Path) -> None:
    """Write the page as PNG with every box of the text and its label; a colour stands for a label.

    Raises:
        ConfigError: the text has no box, or one that is none.
    """
    try:
        blocks = [block for block in parse_grounded(text) if block.boxes]
    except ValueError as error:
        raise ConfigError(f"draw={path}: the model wrote a box that cannot be drawn: {error}.") from error
    if not blocks:
        raise ConfigError(
            f"draw={path}: the model wrote no boxes; ask for them, with <|grounding|> in the prompt."
        )
    drawn = image.convert("RGB")
    draw = ImageDraw.Draw(drawn)
    line = max(2, round(max(image.size) / 500))
    labels = sorted({block.label for block in blocks})
    for block in blocks:
        colour = COLOURS[labels.index(block.label) % len(COLOURS)]
        for left, top, right, bottom in block.boxes:
            across, down = image.width / GRID, image.height / GRID
            draw.rectangle((left * across, top * down, right * across, bottom * down), None, colour, line)
            draw.text((left * across + line, top * down), block.label, colour, font_size=6 * line)
    buffer = io.BytesIO()
    drawn.save(buffer, "PNG")
    atomic_write_bytes(path, buffer.getvalue())
