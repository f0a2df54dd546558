r"""Displayed formulas in a text layer, as far as it allows: letters in a row, with sub- and superscripts.

A text layer has no fractions and no roots: what stands over and under a bar is letters at two heights. A page
with such a formula is not answered with boxes and Markdown, where its LaTeX would be wrong.
"""

from __future__ import annotations

import re
from statistics import median

from data_engine.render.pdf_blocks import TextBlock
from data_engine.render.pdf_text import Letter, TextLayer

_SIGNS = set("=<>≤≥≈≠≡∼±∓×÷√∑∏∫∂∇∞∈∉⊂⊆∪∩→⇒⇔∀∃−")
_STRONG = set("=<>≤≥≈≠≡∑∏∫√∈→⇒")
_WORD = re.compile(r"[^\W\d_]{3,}")
_NUMBER = re.compile(r"\(([0-9]{1,3}(?:\.[0-9]{1,3})*)\)\s*$")
_NAMES = {"sin", "cos", "tan", "log", "exp", "max", "min", "lim", "det", "mod", "arg"}
_LATEX = {
    "≤": r"\leq", "≥": r"\geq", "≈": r"\approx", "≠": r"\neq", "≡": r"\equiv", "∼": r"\sim", "±": r"\pm",
    "∓": r"\mp", "×": r"\times", "÷": r"\div", "√": r"\surd", "∑": r"\sum", "∏": r"\prod", "∫": r"\int",
    "∂": r"\partial", "∇": r"\nabla", "∞": r"\infty", "∈": r"\in", "∉": r"\notin", "⊂": r"\subset",
    "⊆": r"\subseteq", "∪": r"\cup", "∩": r"\cap", "→": r"\to", "⇒": r"\Rightarrow", "⇔": r"\Leftrightarrow",
    "∀": r"\forall", "∃": r"\exists", "−": "-", "·": r"\cdot", "…": r"\ldots", "{": r"\{", "}": r"\}",
    "%": r"\%", "&": r"\&", "#": r"\#", "_": r"\_", "$": r"\$", "\\": r"\backslash",
    "α": r"\alpha", "β": r"\beta", "γ": r"\gamma", "δ": r"\delta", "ε": r"\epsilon", "ζ": r"\zeta",
    "η": r"\eta", "θ": r"\theta", "ι": r"\iota", "κ": r"\kappa", "λ": r"\lambda", "μ": r"\mu", "ν": r"\nu",
    "ξ": r"\xi", "π": r"\pi", "ρ": r"\rho", "σ": r"\sigma", "τ": r"\tau", "υ": r"\upsilon", "φ": r"\varphi",
    "χ": r"\chi", "ψ": r"\psi", "ω": r"\omega", "Γ": r"\Gamma", "Δ": r"\Delta", "Θ": r"\Theta",
    "Λ": r"\Lambda", "Ξ": r"\Xi", "Π": r"\Pi", "Σ": r"\Sigma", "Φ": r"\Phi", "Ψ": r"\Psi", "Ω": r"\Omega",
}  # fmt: skip


def label_formulas(blocks: list[TextBlock], layer: TextLayer) -> bool:
    """Turn blocks that are formulas into equations; False when one of them cannot be written in a line."""
    linear = True
    for block in blocks:
        if block.label not in ("text", "title", "sub_title") or not looks_like_formula(block.plain):
            continue
        letters = [letter for row in block.rows for piece in row.pieces for letter in layer.letters(piece)]
        latex = linear_latex(letters) if len(block.rows) == 1 else None
        if latex is None:
            linear = False
            continue
        block.label, block.text = "equation", rf"\[{latex}\]"
    return linear


def looks_like_formula(text: str) -> bool:
    """A relation or a large sign, hardly any word, and not too long."""
    words = [word for word in _WORD.findall(text) if word.lower() not in _NAMES]
    signs = sum(character in _SIGNS for character in text)
    return any(character in _STRONG for character in text) and len(words) <= 1 and signs * 25 >= len(text)


def linear_latex(letters: list[Letter]) -> str | None:
    """LaTeX of letters on one baseline with scripts above and below; None when they stand otherwise."""
    if not letters:
        return None
    number = _NUMBER.search("".join(letter.text for letter in letters))
    body = letters[: len(letters) - len(number[0].strip())] if number else letters
    if not body or "√" in {letter.text for letter in body}:
        return None
    full = max(letter.size for letter in body)
    base = median(letter.baseline for letter in body if letter.size > 0.85 * full)
    parts, level = [], 0
    for letter in body:
        raised = base - letter.baseline
        if letter.size > 0.85 * full:
            if abs(raised) > 0.12 * full:
                return None  # over or under a bar
            here = 0
        else:
            if abs(raised) > 0.75 * full:
                return None  # the limits of a sum
            here = 1 if raised > 0.1 * full else -1
        if here != level:
            parts.append("}" if level else "")
            parts.append("^{" if here > 0 else "_{" if here < 0 else "")
            level = here
        code = _LATEX.get(letter.text, letter.text)
        parts.append(f"{code} " if len(code) > 1 and code[-1].isalpha() else code)
    parts.append("}" if level else "")
    latex = "".join(parts).replace(" }", "}").strip()
    return rf"{latex}\tag{{{number[1]}}}" if number else latex
