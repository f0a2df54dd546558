"""Tars of others are read where they lie, and what cannot be used is named."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_engine.dataset import Dataset
from data_engine.errors import ConfigError
from data_engine.prompts import DESCRIBE_IMAGE, FREE_OCR
from data_engine.verify import contact_sheet, verify
from tests.data_engine.foreign_tars import as_json, bomb, index, indexed, pages, picture, write_tar

CHAT = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A cat."}]


def check(dataset: Dataset) -> None:
    verify(dataset, lambda done, samples: None)


def test_pages(tmp_path: Path) -> None:
    dataset, outcome = indexed(tmp_path, pages(5))
    assert (len(dataset), outcome.skipped) == (5, [])
    sample = dataset.read(3)
    assert (sample.key, sample.prompt, sample.response, sample.task) == (
        "a/00003",
        FREE_OCR,
        "text of 3",
        "page",
    )
    assert sample.images == (pages(5)[6][1],)
    assert (sample.image_formats, sample.image_sizes) == (("jpg",), ((23, 10),))
    assert dataset.read_text(3).image_sizes == ((23, 10),)
    three = np.array([3])
    assert dataset.image_sizes_of(three)[1].tolist() == [[23, 10]]
    assert dataset.text_lengths_of(three).tolist() == [[len(FREE_OCR), len("text of 3")]]
    check(dataset)
    contact_sheet([dataset], tmp_path / "sheet.png")


def test_laion_captions_are_told_from_pages(tmp_path: Path) -> None:
    members = [
        ("000.webp", picture(30, 20, "WEBP")),
        ("000.txt", b" a cat\n"),
        ("000.json", as_json({"url": "http://x", "caption": "a cat", "similarity": 0.3})),
    ]
    dataset, _ = indexed(tmp_path, members)
    sample = dataset.read(0)
    assert (sample.prompt, sample.response, sample.task) == (DESCRIBE_IMAGE, "a cat", "caption")
    assert (sample.image_formats, sample.image_sizes) == (("webp",), ((30, 20),))
    check(dataset)


def test_markdown_and_fields_of_json(tmp_path: Path) -> None:
    dataset, _ = indexed(tmp_path / "md", [("p.png", picture(8, 8, "PNG")), ("p.md", "# Título".encode())])
    assert dataset.read(0).prompt == "<image>\nConvert the document to markdown."
    assert dataset.read(0).response == "# Título"
    members = [
        ("d/p.png", picture(8, 8, "PNG")),
        ("d/p.json", as_json({"text": "t", "page": 3, "other": "o"})),
    ]
    dataset, _ = indexed(tmp_path / "json", members)
    assert (dataset.read(0).key, dataset.read(0).response) == ("a/d/p", "t")
    wishes = {"response": "json.other", "prompt": "<image>\nRead.", "task": "mine"}
    dataset, _ = indexed(tmp_path / "chosen", members, **wishes)
    sample = dataset.read(0)
    assert (sample.prompt, sample.response, sample.task) == ("<image>\nRead.", "o", "mine")


def test_conversations(tmp_path: Path) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "image"}, {"type": "image"}, {"type": "text", "text": "Compare."}],
        },
        {"role": "assistant", "content": "Equal."},
    ]
    longer = [*CHAT, {"from": "human", "value": "Its colour?"}, {"from": "gpt", "value": "Black."}]
    members = [
        ("one.jpg", picture()),
        ("one.json", as_json({"conversations": longer})),
        ("two.1.png", picture(9, 9, "PNG")),
        ("two.0.jpg", picture(5, 5)),
        ("two.json", as_json({"messages": messages})),
        ("bare.jpg", picture()),
        ("bare.json", as_json({"conversations": [{**CHAT[0], "value": "What?"}, CHAT[1]]})),
        (
            "text.json",
            as_json(
                {"messages": [{"role": "user", "content": "2 + 2"}, {"role": "assistant", "content": "4"}]}
            ),
        ),
    ]
    dataset, outcome = indexed(tmp_path, members)
    assert outcome.skipped == []
    one, two, bare, text = (dataset.read(i) for i in range(4))
    assert (one.prompt, one.response) == ("<image>\nWhat is it?\nA cat.\nIts colour?", "Black.")
    assert (two.prompt, two.response) == ("Be brief.\n<image>\n<image>\nCompare.", "Equal.")
    assert (two.image_formats, two.image_sizes) == (("jpg", "png"), ((5, 5), (9, 9)))
    assert bare.prompt == "<image>\nWhat?"
    assert (text.prompt, text.response, text.images) == ("2 + 2", "4", ())
    check(dataset)


def test_text_without_images(tmp_path: Path) -> None:
    dataset, _ = indexed(tmp_path, [("a.txt", b"words"), ("b.txt", b"more words")])
    sample = dataset.read(1)
    assert (sample.prompt, sample.response, sample.image_sizes) == ("", "more words", ())


def test_our_own_tars_without_their_indices(cards: Dataset, tmp_path: Path) -> None:
    for path in cards.directory.glob("*.tar"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index(tmp_path)
    again = Dataset.open(tmp_path)
    assert [again.read(i) for i in range(12)] == [cards.read(i) for i in range(12)]
    assert again.fingerprint == cards.fingerprint
    check(again)


def test_the_joint_index_of_an_older_dataset_is_written(
    damaged: Callable[[], Path], cards: Dataset, tmp_path: Path
) -> None:
    directory = damaged()
    (directory / "dataset.index").unlink()
    index(directory)
    assert (directory / "dataset.index").read_bytes() == (cards.directory / "dataset.index").read_bytes()
    write_tar(tmp_path / "others" / "a.tar", pages(1))
    with pytest.raises(ConfigError, match=r"out=.*copy holds a finished dataset of kind=card"):
        index(tmp_path / "others", directory)
    (directory / "manifest.json").unlink()
    with pytest.raises(ConfigError, match=r"is an unfinished dataset .* kind=card"):
        index(directory)


def test_long_names_of_every_kind(tmp_path: Path) -> None:
    name = "directory/" * 20 + "ünïcode" + "x" * 90
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        directory = tmp_path / str(form)
        write_tar(directory / "a.tar", [(f"{name}.jpg", picture()), (f"{name}.txt", b"long")], form)
        index(directory)
        assert Dataset.open(directory).read(0).key == f"a/{name}"
    prefix = "p" * 90 + "/" + "n" * 90
    write_tar(
        tmp_path / "u" / "a.tar",
        [(f"{prefix}.jpg", picture()), (f"{prefix}.txt", b"x")],
        tarfile.USTAR_FORMAT,
    )
    index(tmp_path / "u")
    assert Dataset.open(tmp_path / "u").read(0).key == f"a/{prefix}"


def test_photographs_are_measured_upright(tmp_path: Path) -> None:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    dataset, _ = indexed(tmp_path, [("a.jpg", picture(20, 10, exif=exif)), ("a.txt", b"x")])
    assert dataset.image_sizes_of(np.array([0]))[1].tolist() == [[10, 20]]
    check(dataset)


GOOD = ("x.jpg", picture()), ("x.txt", b"x")
UNUSABLE: list[tuple[str, list[tuple[str, bytes]]]] = [
    ("no image", [("b.txt", b"x")]),
    ("no txt", [("b.jpg", picture())]),
    ("no txt", [("b.jpg", picture()), ("b.txt.gz", gzip.compress(bytes(10**6)))]),
    ("no txt", [("b.jpg", picture()), ("b.pyd", pickle.dumps([1]))]),
    ("empty text", [("b.jpg", picture()), ("b.txt", b" \n")]),
    ("text is not UTF-8", [("b.jpg", picture()), ("b.txt", b"\xff\xfe\x00")]),
    ("image is not a readable PNG, JPEG, WEBP", [("b.jpg", b"GIF89a" + bytes(90)), ("b.txt", b"x")]),
    ("image ends before its end", [("b.jpg", picture()[:-40]), ("b.txt", b"x")]),
    ("image ends before its end", [("b.png", picture(8, 8, "PNG")[:-20]), ("b.txt", b"x")]),
    ("image has more than 100,000,000 pixels", [("b.png", bomb()), ("b.txt", b"x")]),
    ("dot in the key", [("b.v1.5.jpg", picture()), ("b.v1.5.txt", b"x")]),
    (
        "key appears again (members of a sample must follow one another)",
        [("x.jpg", picture()), ("x.txt", b"2")],
    ),
    (
        "several images without numbers of their own",
        [("b.jpg", picture()), ("b.png", picture()), ("b.txt", b"x")],
    ),
    ("unsafe member name", [("/etc/b.jpg", picture()), ("/etc/b.txt", b"x")]),
    ("unsafe member name", [("../../b.jpg", picture()), ("../../b.txt", b"x")]),
    ("member name without a key", [("d/.jpg", picture()), ("d/.txt", b"x")]),
]


@pytest.mark.parametrize(("reason", "members"), UNUSABLE)
def test_what_cannot_be_used_is_named(tmp_path: Path, reason: str, members: list[tuple[str, bytes]]) -> None:
    dataset, outcome = indexed(tmp_path, [*GOOD, *members], layout="page", response="txt")
    assert len(dataset) == 1
    assert dataset.read(0).key == "a/x"
    assert outcome.manifest["skipped"] == {reason: 1}
    report = [json.loads(line) for line in (tmp_path / "skipped.jsonl").read_text().splitlines()]
    assert [line["reason"] for line in report] == [reason]
    assert report[0]["sample"].startswith("a.tar: ")
    check(dataset)


@pytest.mark.parametrize(
    ("reason", "content"),
    [
        ("bad JSON", b"{"),
        ("bad JSON", b"[" * 100_000),
        ("no conversation in the JSON", b"[]"),
        ("no conversation in the JSON", as_json({"conversations": [1]})),
        ("unknown speaker in the conversation", as_json({"conversations": [{"from": "x", "value": "y"}]})),
        ("conversation does not end with an answer to a question", as_json({"conversations": CHAT[:1]})),
        (
            "number of <image> marks is not that of the images",
            as_json({"conversations": [{"from": "human", "value": "<image><image>"}, CHAT[1]]}),
        ),
    ],
)
def test_conversations_that_cannot_be_used(tmp_path: Path, reason: str, content: bytes) -> None:
    good = [("x.jpg", picture()), ("x.json", as_json({"conversations": CHAT}))]
    dataset, outcome = indexed(tmp_path, [*good, ("y.jpg", picture()), ("y.json", content)])
    assert (len(dataset), outcome.manifest["skipped"]) == (1, {reason: 1})


def test_links_and_unused_members_are_counted(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", [*GOOD, ("x.cls", b"7"), ("x.npz", b"7")])
    with tarfile.open(path, "a") as tar:
        link = tarfile.TarInfo("y.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("y.txt"))
    outcome = index(tmp_path)
    assert outcome.manifest["skipped"] == {"member is a link": 1}
    assert outcome.unused == {"cls": 1, "npz": 1}


def test_compressed_tars_are_refused(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", pages(2))
    path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ConfigError, match=r"a.tar: it is compressed with gzip, .* unpack it"):
        index(tmp_path)
    path.rename(tmp_path / "a.tar.gz")
    with pytest.raises(ConfigError, match=r"a.tar.gz is compressed, .* unpack it"):
        index(tmp_path)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere cannot be listed: No such file"):
        index(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"holds no .tar"):
        index(tmp_path)
    write_tar(tmp_path / "a.tar", pages(2))
    refused = [
        ({"layout": "pages"}, "layout=pages is not possible; did you mean 'page'"),
        ({"prompt": "Read."}, "prompt has 0 <image> marks: give it one"),
        ({"response": "png"}, "response=png is not possible: give txt, md or json.FIELD"),
        ({"layout": "own", "task": "x"}, "layout=own brings prompt, response and task"),
        ({"layout": "conversation", "prompt": "<image>"}, "layout=conversation brings prompt and response"),
        ({"response": "md"}, r"no sample in .* can be used as layout=page with response=md \(2 x no md\)"),
    ]
    for wishes, sentence in refused:
        with pytest.raises(ConfigError, match=sentence):
            index(tmp_path, **wishes)
        assert not (tmp_path / "manifest.json").exists()
    write_tar(tmp_path / "b" / "a.tar", [("a.jpg", picture()), ("a.cls", b"3")])
    with pytest.raises(ConfigError, match="no response was found among the members"):
        index(tmp_path / "b")


def test_an_index_elsewhere_and_only_what_changed(tmp_path: Path) -> None:
    write_tar(tmp_path / "tars" / "a.tar", pages(3))
    write_tar(tmp_path / "tars" / "b.tar", pages(3))
    out = tmp_path / "out"
    assert index(tmp_path / "tars", out).reused_tars == 0
    assert sorted(path.name for path in (tmp_path / "tars").iterdir()) == ["a.tar", "b.tar"]
    first = Dataset.open(out)
    assert first.read(4).key == "b/00001"
    assert first.tars.location == str(tmp_path / "tars")
    check(first)
    write_tar(tmp_path / "tars" / "b.tar", pages(4))
    outcome = index(tmp_path / "tars", out)
    assert (outcome.reused_tars, len(Dataset.open(out))) == (1, 7)
    assert index(tmp_path / "tars", out).reused_tars == 2
    assert index(tmp_path / "tars", out, task="other").reused_tars == 0
    assert Dataset.open(out).fingerprint != first.fingerprint


@pytest.mark.slow
def test_the_command(tmp_path: Path) -> None:
    for name in "ab":
        write_tar(tmp_path / f"{name}.tar", [*pages(3), ("z.jpg", picture()), ("z.cls", b"1")])
    command = [
        sys.executable,
        "-m",
        "data_engine",
        f"index={tmp_path}",
        "workers=2",
        r"prompt='<image>\nRead.'",
    ]
    made = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert made.returncode == 0, made.stderr
    lines = made.stdout.splitlines()
    assert lines[0] == r"layout=page response=txt task=page prompt='<image>\nRead.'"
    assert lines[2:5] == ["skipped 2: no txt", "  sample 3: a.tar: z", "  sample 3: b.tar: z"]
    assert lines[-2:] == ["members that are not used: 2 x .cls", f"{tmp_path}: 6 samples in 2 shards"]
    assert Dataset.open(tmp_path).read(0).prompt == "<image>\nRead."
