"""Is generation healthy? Loops, answers that were cut off, and speed.

An answer *ends in a loop* when its end is one piece of text of at most 200 characters, repeated back to back
at least 8 times and over at least 60 characters, and the truth does not end that way. This is the failure
that makes a decoder run into its limit. Repetition that the page has (rows of empty cells, dotted lines) is
not counted where the truth ends with it.

Pages per day are 86,400 x answers / seconds, from the times recorded while predicting. The paper (abstract)
says 200,000 pages per day on one A100-40G.
"""

from __future__ import annotations

LONGEST_PIECE = 200  # characters
LEAST_COPIES = 8
LEAST_LENGTH = 60  # characters
PAPER_PAGES_PER_DAY = 200_000
"""One A100-40G (arXiv 2510.18234, abstract)."""
SECONDS_PER_DAY = 86_400


def loop_length(text: str) -> int:
    """Characters of the repetition at the end of `text` (white space at its very end aside); 0 if none."""
    text = text.rstrip()
    longest = 0
    for piece in range(1, min(LONGEST_PIECE, len(text) // LEAST_COPIES) + 1):
        least = max(LEAST_COPIES * piece, LEAST_LENGTH)
        if len(text) < least or text[-piece:] != text[-2 * piece : -piece]:
            continue
        if text[-least:-piece] != text[piece - least :]:
            continue
        length = least
        while length < len(text) and text[-length - 1] == text[-length - 1 + piece]:
            length += 1
        longest = max(longest, length)
    return longest


def ends_in_a_loop(prediction: str, truth: str) -> bool:
    """Whether the prediction runs on in a loop that the truth does not end with."""
    return loop_length(prediction) > 0 and loop_length(truth) == 0
