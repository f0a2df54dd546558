from __future__ import annotations

from typing import Any

import pytest

from data_engine.errors import ConfigError
from data_engine.kinds import KINDS, make_renderer


@pytest.mark.parametrize(
    ("kind", "options", "sentence"),
    [
        ("card", {"length": [3, 1]}, "options.length=[3,1] is not possible: give [MIN,MAX]"),
        ("card", {"alphabet": " "}, "options.alphabet needs at least one character that can be seen."),
        ("card", {"fonts": ["sams"]}, "options.fonts=sams is not possible; did you mean 'sans'?"),
        ("card", {"bold": 2.0}, "options.bold=2.0 is not possible: give a number from 0 to 1."),
        ("page", {"size": [512]}, "options.size=[512] is not possible: give one number or [WIDTH,HEIGHT]"),
        ("page", {"size": "big"}, "options.size=big is not possible: give one number or [WIDTH,HEIGHT]"),
        ("page", {"languages": ["fr"]}, "options.languages=fr is not possible"),
        ("chart", {"engine": "echart"}, "options.engine=echart is not possible; did you mean 'echarts'?"),
        ("chart", {"forms": ["bra"]}, "options.forms=bra is not possible; did you mean 'bar'?"),
        ("chemistry", {"split": "test"}, "options.split=test is not possible"),
        ("geometry", {"shapes": []}, "options.shapes needs at least one of square"),
    ],
)
def test_impossible_options_are_refused(kind: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KINDS[kind].options(**options)
    assert str(caught.value).startswith(sentence)


def test_a_character_that_the_font_lacks_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"options.alphabet holds '中', which the font sans cannot draw"):
        make_renderer("card", KINDS["card"].options(alphabet="1中"))


def test_a_missing_or_empty_file_of_molecules_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigError, match=r"nothing.smi cannot be read: No such file"):
        make_renderer("chemistry", KINDS["chemistry"].options(smiles=str(tmp_path / "nothing.smi")))
    (tmp_path / "empty.smi").write_text("\n\n")
    with pytest.raises(ConfigError, match=r"empty.smi is empty: give one SMILES per line"):
        make_renderer("chemistry", KINDS["chemistry"].options(smiles=str(tmp_path / "empty.smi")))


def test_missing_assets_are_one_sentence(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from data_engine import fonts

    monkeypatch.setenv("DATA_ENGINE_ASSETS", str(tmp_path))
    fonts.font_file.cache_clear()
    for kind in ("page", "chart"):
        with pytest.raises(ConfigError, match=r"is missing: run python -m data_engine assets=fetch\.$"):
            make_renderer(kind, KINDS[kind].options())
    (tmp_path / "NotoSansSC-Regular.ttf").write_bytes(b"something else")
    with pytest.raises(ConfigError, match=r"is not the one of @expo-google-fonts/noto-sans-sc@0.4.3"):
        make_renderer("page", KINDS["page"].options())
