from __future__ import annotations

import pytest

from evaluation.predictions import Prediction, Question
from evaluation.questions import Case
from evaluation.score import reading_summary, score_all

PROMPT = "<image>\nFree OCR."
TRUTHS = ["1234", "5678", "12"]


def cases(name: str = "card") -> list[Case]:
    """Three samples; each is shown the image of the next one in the control."""
    own = [Question(name, f"k{i}", PROMPT, "nano_tiny") for i in range(3)]
    return [
        Case(i, f"k{i}", "card", truth, own[i], own[(i + 1) % 3], (i + 1) % 3)
        for i, truth in enumerate(TRUTHS)
    ]


def answers(texts: dict[int, str], finish_reason: str = "stop") -> dict[Question, Prediction]:
    made = [
        Prediction("card", f"k{i}", f"k{i}", PROMPT, "nano_tiny", text, finish_reason, 12, 7, len(text), 0.0)
        for i, text in texts.items()
    ]
    return {prediction.question: prediction for prediction in made}


def test_a_perfect_reader_falls_to_chance_when_images_are_shuffled() -> None:
    scores = score_all({"card": cases()}, answers(dict(enumerate(TRUTHS))))["datasets"]["card"]
    assert scores["character_accuracy"] == scores["exact_match"] == 1.0
    # Shuffled: "5678" for "1234" (4 wrong), "12" for "5678" (4), "1234" for "12" (2); of 10 characters.
    assert scores["character_accuracy_shuffled"] == scores["chance"] == 0.0
    assert scores["control_reused"] == 1.0


def test_a_guesser_keeps_its_score_when_images_are_shuffled() -> None:
    scores = score_all({"card": cases()}, answers({0: "12", 1: "12", 2: "12"}))["datasets"]["card"]
    assert scores["character_accuracy"] == scores["character_accuracy_shuffled"] == pytest.approx(0.4)
    assert scores["chance"] == 0.0


def test_missing_and_truncated_answers_are_counted() -> None:
    content = score_all({"card": cases()}, answers({0: "1234", 2: "12"}, "length"))
    scores = content["datasets"]["card"]
    assert (scores["missing"], scores["missing_keys"]) == (1, ["k1"])
    assert scores["truncated"] == 1.0  # of the answers that there are
    assert scores["character_accuracy"] == pytest.approx(0.6)
    assert [sample["finish_reason"] for sample in content["samples"]] == ["length", "missing", "length"]


def test_without_images_there_is_no_control() -> None:
    text_only = [Case(0, "k0", "text", "abc", Question("text", "k0", "Say abc.", "nano_tiny"))]
    scores = score_all({"text": text_only}, {})["datasets"]["text"]
    assert scores["character_accuracy_shuffled"] is scores["chance"] is scores["control_reused"] is None


def test_the_headline_falls_back_to_everything() -> None:
    scores = score_all({"card": cases()}, answers({0: "1234"}))
    assert reading_summary(scores, "card")["headline"] == "card"
    assert reading_summary(scores, "page")["headline"] == "all"
    assert reading_summary(scores, "page")["character_accuracy"] == pytest.approx(0.4)
