"""Where things lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data"
BENCHMARKS = ROOT / "benchmarks"
DEMO_WAVES = ROOT / "gdn" / "evaluation" / "demo_waves"
