"""Which languages a renderer writes, and which fonts can write each: ours, and those that the user gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_engine.errors import ConfigError
from data_engine.fonts import CHINESE_FAMILY, font_file
from data_engine.languages import SCRIPTS, WORDS, Script, given_script
from data_engine.random_stream import Stream
from data_engine.render.graphics import file_versions
from data_engine.render.paragraphs import Typesetter, document_font_file, undrawable
from data_engine.render.user_fonts import font_hashes, font_paths
from data_engine.sources.names import read_names

LONGEST_WORD = 40
"""In characters: longer ones do not fit into a column."""
LAST_FAMILY = "sans"
"""Asked for what no font of the user can write: digits and marks beside a script that has none of its own."""


@dataclass(frozen=True)
class Writing:
    """The scripts of one renderer, with their fonts."""

    scripts: Mapping[str, Script]
    """By language code; the words of the user are called WORDS."""
    languages: Mapping[str, float]
    """The weights of these codes."""
    families: Mapping[str, Mapping[str, float]]
    """By language code: the weight of every family, ours by name and the user's by path, that can write it."""
    typesetter: Typesetter
    versions: Mapping[str, str]
    """Hashes of all files, the user's among them."""

    def language(self, stream: Stream) -> str:
        """The code of a random language."""
        return stream.weighted(self.languages)

    def family(self, stream: Stream, language: str) -> str:
        """A random family that can write a language."""
        return stream.weighted(self.families[language])


def writing(
    languages: Mapping[str, float],
    family_weights: Mapping[str, float],
    fonts: Sequence[str] = (),
    words: str | None = None,
    more: Sequence[str] = (),
) -> Writing:
    """What the options of a renderer make of its languages; `words` are written instead of them where there are any.

    A language is written with those of the user's `fonts` that have all of its letters, and with ours where none
    has; what is missing then is looked for in the others, and last in LAST_FAMILY. `more` are families that the
    renderer needs besides.

    Raises:
        ConfigError: a font, or the file of the words, is broken; no font can write a language; the Chinese font is
            needed and was not fetched.
    """
    given = font_paths(fonts)
    if words is not None:
        languages, scripts = {WORDS: 1.0}, {WORDS: words_of_user(words, (*given, LAST_FAMILY))}
    else:
        languages = {code: weight for code, weight in languages.items() if weight > 0}
        scripts = {code: SCRIPTS[code] for code in languages}
    families = {code: _families(script, given, family_weights) for code, script in scripts.items()}
    used = sorted({family for weights in families.values() for family in weights} - set(given))
    if CHINESE_FAMILY in used:
        font_file(CHINESE_FAMILY, False)  # refuses at once when it was not fetched
    last = (LAST_FAMILY,) if given or words is not None else ()
    known = tuple(dict.fromkeys((*used, *more, *last)))
    files = {document_font_file(family, bold) for family in known for bold in (False, True)}
    versions = file_versions(files) | font_hashes(given)
    if words is not None:
        versions |= file_versions([Path(words)])
    return Writing(scripts, languages, families, Typesetter(known, given, last), versions)


def _families(script: Script, given: Sequence[str], weights: Mapping[str, float]) -> dict[str, float]:
    able = [font for font in given if not undrawable(script.letters(), font)]
    if script.language.code == WORDS and not able:  # words of several scripts: each font writes its own
        able = list(given)
    if able:
        return dict.fromkeys(able, 1.0)
    found = {family: weights[family] for family in script.families if weights[family] > 0}
    if script.language.code == WORDS:
        # Where no family writes all words, each of them writes what it can, and the last one the rest.
        found = {
            name: weight for name, weight in found.items() if not undrawable(script.letters(), name)
        } or found
    if not found:
        raise ConfigError(
            f"options.families leaves none for language '{script.language.code}': it needs "
            f"{' or '.join(script.families)}."
        )
    return found


def words_of_user(path: str, families: Sequence[str]) -> Script:
    """The words of a file that one or another of the families can write. ConfigError where there is none."""
    given = read_names(Path(path), "options.words_file", LONGEST_WORD)
    unknown = set(undrawable(Script.all_forms(given), *families))
    words = tuple(word for word in given if unknown.isdisjoint(Script.all_forms([word])))
    if not words:
        raise ConfigError(
            f"options.words_file={path} holds no word of up to {LONGEST_WORD} characters that a font can write: give "
            "options.fonts that can."
        )
    return given_script(words)
