"""Tars that others wrote: which members make a sample, and what is its prompt and its response.

    layout          members of one key                        prompt              response
    own             png|jpg|webp, json as in `sample.py`      from the json       from the json
    caption         an image, txt [, json]: LAION, img2dataset  "Describe ..."    the txt
    page            images, txt | md: olmOCR, plain pages     "Free OCR." or "Convert ..."   the txt or md
    conversation    images or none, json: LLaVA               all before the last answer     the last answer
    text            txt | md | json.FIELD, no image           none                the text

The key is what comes before the first dot of the file name, with its directory, as WebDataset has it. Several
images are numbered: KEY.0.png, KEY.1.png. What is chosen here is written into the manifest and applied whenever
a sample is read; the tars stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from data_engine.errors import ConfigError, one_of
from data_engine.prompts import DESCRIBE_IMAGE, FREE_OCR
from data_engine.sample import IMAGE_FORMATS, IMAGE_PLACEHOLDER, Sample, from_json

LAYOUTS = ("own", "caption", "page", "conversation", "text")
MARKDOWN_PAGE = f"{IMAGE_PLACEHOLDER}\nConvert the document to markdown."
"""The released prompt without grounding: a plain Markdown page has no boxes."""
TEXT_MEMBERS = ("txt", "md", "json")
IMAGE_MEMBERS = {"jpeg": "jpg", **{name: name for name in IMAGE_FORMATS}}
_TEXT_FIELDS = ("markdown", "text", "natural_text", "caption", "response", "answer")
_CAPTION_FIELDS = {"caption", "url", "similarity"}
_ANSWERS, _QUESTIONS = {"gpt", "assistant", "model"}, {"human", "user", "system"}


class UnusableError(ValueError):
    """A sample that cannot be used. The message is short and countable: "bad JSON"."""


@dataclass(frozen=True)
class Convention:
    """How the members of a key become a sample."""

    layout: str
    prompt: str
    """Prompt of every sample, with one "<image>", which is repeated where a sample has several images; "" where the
    samples bring their own."""
    response: str
    """The member with the response: "txt", "md", "json", or "json.FIELD" for one field of a JSON object."""
    task: str

    @classmethod
    def of_manifest(cls, manifest: Mapping[str, Any]) -> Convention:
        return cls(**manifest["convention"]) if "convention" in manifest else OWN

    @property
    def text_member(self) -> str:
        return self.response.partition(".")[0]

    @property
    def needs_image(self) -> bool:
        return self.layout in ("caption", "page")

    def sample(
        self,
        key: str,
        text: bytes,
        images: tuple[bytes, ...],
        formats: tuple[str, ...],
        sizes: tuple[tuple[int, int], ...],
    ) -> Sample:
        """The sample of these members; `formats` and `sizes` also of images that were not read.

        Raises ValueError when they make none, UnusableError for a foreign layout.
        """
        if self.layout == "own":
            return from_json(key, text, images)
        prompt, response = self._texts(text, len(formats))
        return Sample(key, images, formats, sizes, prompt, response, self.task)

    def _texts(self, data: bytes, images: int) -> tuple[str, str]:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UnusableError("text is not UTF-8") from error
        if self.text_member == "json":
            try:
                record = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise UnusableError("bad JSON") from error
            if self.layout == "conversation":
                return conversation(record, images)
            field = self.response.partition(".")[2]
            if not isinstance(record, dict) or not isinstance(record.get(field), str):
                raise UnusableError(f"no text in the field {field} of the JSON")
            text = record[field]
        text = text.strip()
        if not text:
            raise UnusableError("empty text")
        return self.prompt.replace(IMAGE_PLACEHOLDER, IMAGE_PLACEHOLDER * images), text


OWN = Convention("own", "", "json", "")


def conversation(record: Any, images: int) -> tuple[str, str]:
    """All turns before the last answer, one line each, and that answer. UnusableError when it has no such form."""
    turns = record.get("conversations", record.get("messages")) if isinstance(record, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise UnusableError("no conversation in the JSON")
    speakers = [turn.get("from", turn.get("role")) for turn in turns]
    contents = [_content(turn.get("value", turn.get("content"))) for turn in turns]
    if not {*map(str, speakers)} <= _ANSWERS | _QUESTIONS:
        raise UnusableError("unknown speaker in the conversation")
    if len(turns) < 2 or speakers[-1] not in _ANSWERS:
        raise UnusableError("conversation does not end with an answer to a question")
    prompt, response = "\n".join(contents[:-1]), contents[-1]
    if not response.strip():
        raise UnusableError("empty text")
    if IMAGE_PLACEHOLDER not in prompt and images:
        prompt = IMAGE_PLACEHOLDER * images + "\n" + prompt
    if prompt.count(IMAGE_PLACEHOLDER) != images:
        raise UnusableError("number of <image> marks is not that of the images")
    return prompt, response


def _content(content: Any) -> str:
    """What one turn says: a text, or a list of texts and images."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        raise UnusableError("no conversation in the JSON")
    parts = [IMAGE_PLACEHOLDER if "image" in str(part.get("type")) else part.get("text") for part in content]
    if not all(isinstance(part, str) for part in parts):
        raise UnusableError("no conversation in the JSON")
    return "\n".join(part for part in parts if isinstance(part, str))


def choose(
    samples: Sequence[Mapping[str, bytes]],
    *,
    layout: str | None,
    prompt: str | None,
    response: str | None,
    task: str | None,
) -> Convention:
    """The convention of a dataset: what was asked for, and the rest from its first samples (extension -> content).

    Raises ConfigError when the samples fit no layout, or the wishes do not fit together.
    """
    members = {extension.rpartition(".")[2] for sample in samples for extension in sample}
    has_images = any(member in IMAGE_MEMBERS for member in members)
    fields = _common_fields(samples)
    if layout is None:
        layout = _detect(members, fields, has_images, response)
    one_of("layout", layout, LAYOUTS)
    if layout == "own":
        if (prompt, response, task) != (None, None, None):
            raise ConfigError("layout=own brings prompt, response and task of every sample: leave them out.")
        return OWN
    if layout == "conversation":
        if prompt is not None or response not in (None, "json"):
            raise ConfigError("layout=conversation brings prompt and response in its json: leave them out.")
        return Convention(layout, "", "json", task or "conversation")
    response = response or _response_member(members, fields)
    member, _, field = response.partition(".")
    if member not in TEXT_MEMBERS or (member == "json") != bool(field):
        raise ConfigError(f"response={response} is not possible: give txt, md or json.FIELD.")
    if prompt is None:
        pages = MARKDOWN_PAGE if member == "md" or field == "markdown" else FREE_OCR
        prompt = {"caption": DESCRIBE_IMAGE, "page": pages, "text": ""}[layout]
    marks = prompt.count(IMAGE_PLACEHOLDER)
    if marks != (0 if layout == "text" else 1):
        raise ConfigError(
            f"prompt has {marks} {IMAGE_PLACEHOLDER} marks: give it "
            f"{'none, for layout=text has no images' if layout == 'text' else 'one, for example ' + repr(FREE_OCR)}."
        )
    return Convention(layout, prompt, response, task or layout)


def _detect(members: set[str], fields: set[str], has_images: bool, response: str | None) -> str:
    if response is not None:
        return "page" if has_images else "text"
    if {"schema", "images", "prompt", "response"} <= fields:
        return "own"
    if fields & {"conversations", "messages"}:
        return "conversation"
    if not has_images:
        return "text"
    return "caption" if "txt" in members and fields & _CAPTION_FIELDS else "page"


def _response_member(members: set[str], fields: set[str]) -> str:
    for member in ("md", "txt"):
        if member in members:
            return member
    for field in _TEXT_FIELDS:
        if field in fields:
            return f"json.{field}"
    raise ConfigError(
        f"no response was found among the members ({', '.join(sorted(members)) or 'none'}) of the first samples: give "
        "response=txt, response=md or response=json.FIELD."
    )


def _common_fields(samples: Sequence[Mapping[str, bytes]]) -> set[str]:
    """Fields of the JSON objects of the first samples that have one that can be read."""
    found: set[str] = set()
    for sample in samples:
        try:
            record = json.loads(sample["json"])
        except (KeyError, ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            found |= set(record)
    return found


def convention_record(convention: Convention) -> dict[str, Any]:
    """What the manifest says of a convention; nothing for our own."""
    return {} if convention == OWN else {"convention": asdict(convention)}
