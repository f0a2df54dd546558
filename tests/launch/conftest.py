from __future__ import annotations

import sys
from pathlib import Path

# launch/ is no package: its scripts are run by path, so its tests import them by path.
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "launch"))
