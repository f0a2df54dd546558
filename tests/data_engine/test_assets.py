from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from data_engine import assets
from data_engine.errors import ConfigError


def archive_with(directory: Path, members: dict[str, bytes]) -> Path:
    path = directory / "package.tgz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def one_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import hashlib

    digest = hashlib.sha256(b"the file").hexdigest()
    monkeypatch.setattr(assets, "ASSETS", (assets.Asset("file", "package@1", "dist/file", digest),))
    monkeypatch.setenv("DATA_ENGINE_ASSETS", str(tmp_path / "assets"))
    return tmp_path / "assets"


def test_what_is_fetched_is_pinned_and_not_fetched_twice(
    one_asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    whole = archive_with(tmp_path, {"dist/file": b"the file"})
    monkeypatch.setattr(assets, "_npm_pack", lambda package, directory: whole)
    assert assets.fetch_assets(said.append) == one_asset
    assert assets.asset_path("file").read_bytes() == b"the file"
    assets.fetch_assets(said.append)
    assert said == ["fetching package@1 through npm"]
    (one_asset / "file").write_bytes(b"changed")
    with pytest.raises(
        ConfigError, match=r"is not the one of package@1: remove it and run python -m data_engine"
    ):
        assets.asset_path("file")


@pytest.mark.parametrize("members", [{"dist/file": b"another file"}, {"other": b""}])
def test_another_file_is_refused(
    one_asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, bytes]
) -> None:
    other = archive_with(tmp_path, members)
    monkeypatch.setattr(assets, "_npm_pack", lambda package, directory: other)
    with pytest.raises(
        ConfigError, match=r"dist/file of package@1 is not the file that this project has tested"
    ):
        assets.fetch_assets(lambda line: None)
    assert list(one_asset.iterdir()) == []


def test_without_npm_there_is_one_sentence(one_asset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assets.shutil, "which", lambda name: None)
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"there is no npm to fetch ECharts and the Chinese font with"):
        assets.fetch_assets(lambda line: None)


def test_a_failing_npm_is_one_sentence(
    one_asset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network is away' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setattr(assets.shutil, "which", lambda name: str(npm))
    with pytest.raises(
        ConfigError, match=r"npm could not fetch package@1 \(npm error network is away\): check"
    ):
        assets.fetch_assets(lambda line: None)
