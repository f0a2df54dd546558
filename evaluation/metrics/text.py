"""How well a text was read: character accuracy, normalised edit distance, exact match.

All three compare Unicode strings code point by code point, exactly as they are: no case folding, no Unicode
normalisation, no stripping. Whoever wants a softer comparison changes the texts first and says so.

Character accuracy is the headline of the quickstart. It is defined over a whole set of pairs:

    character accuracy = max(0, 1 - sum of edit distances / sum of reference characters)

so a long page weighs more than a short card, and text that runs on for ever cannot do worse than 0. The edit
distance is Levenshtein's (insertions, deletions and substitutions cost 1 each), computed by rapidfuzz.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rapidfuzz.distance import Levenshtein


@dataclass(frozen=True)
class TextScore:
    """What one prediction is worth against its truth."""

    edit_distance: int
    """Levenshtein distance in characters."""
    reference_characters: int
    """Length of the truth in characters."""
    predicted_characters: int
    """Length of the prediction in characters."""
    exact: bool
    """Whether both are equal."""

    @property
    def character_accuracy(self) -> float:
        """1 - distance / reference characters, not below 0; an empty truth is right only if read as empty."""
        return _accuracy(self.edit_distance, self.reference_characters)

    @property
    def normalised_edit_distance(self) -> float:
        """Distance / length of the longer text, 0 (equal) to 1; 0 when both are empty."""
        longer = max(self.reference_characters, self.predicted_characters)
        return self.edit_distance / longer if longer else 0.0


def score_text(prediction: str, truth: str) -> TextScore:
    """Compares one prediction with its truth."""
    return TextScore(
        edit_distance=Levenshtein.distance(prediction, truth),
        reference_characters=len(truth),
        predicted_characters=len(prediction),
        exact=prediction == truth,
    )


def character_accuracy(scores: Sequence[TextScore]) -> float:
    """Character accuracy of a set (see the top of this file); 0 for an empty set: nothing was read."""
    if not scores:
        return 0.0
    return _accuracy(sum(s.edit_distance for s in scores), sum(s.reference_characters for s in scores))


def mean_normalised_edit_distance(scores: Sequence[TextScore]) -> float:
    """Mean over samples of the normalised edit distance, 0 (perfect) to 1; 1 for an empty set."""
    return sum(s.normalised_edit_distance for s in scores) / len(scores) if scores else 1.0


def exact_match(scores: Sequence[TextScore]) -> float:
    """Share of samples read without any error; 0 for an empty set."""
    return sum(s.exact for s in scores) / len(scores) if scores else 0.0


def _accuracy(edit_distance: int, reference_characters: int) -> float:
    if reference_characters == 0:
        return 1.0 if edit_distance == 0 else 0.0
    return max(0.0, 1.0 - edit_distance / reference_characters)


def aligned_spans(prediction: str, truth: str) -> list[tuple[str, str, str]]:
    """Cuts prediction and truth into runs of (kind, predicted text, true text) along a shortest edit path.

    kind is "equal", "replace", "insert" (only in the prediction) or "delete" (only in the truth); joining the
    second parts gives the prediction, joining the third parts gives the truth.
    """
    return [
        (code.tag, prediction[code.dest_start : code.dest_end], truth[code.src_start : code.src_end])
        for code in Levenshtein.opcodes(truth, prediction)
    ]
