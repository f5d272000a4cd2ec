"""What gdn sees of a scan in recordings: whether rows are displaced, or uneven in brightness.

python benchmarks/scans.py recording.emd stack.tif --sampling 0.1
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from gdn.errors import GdnError
from gdn.pipeline.denoise_file import FileSettings
from gdn.pipeline.straightening import Straightener


def rows_of(path: Path, reading: FileSettings) -> list[str]:
    """A row for each frame of a file, or one that says why it cannot be read."""
    try:
        frames = reading.read(path)
        frames.sampling(reading.sampling_angstrom)
    except GdnError as error:
        return [f"| {path.name} | | {error} | | |"]
    rows = []
    for index in range(frames.count):
        started = time.perf_counter()
        scan = frames.scan_of(index)
        seconds = time.perf_counter() - started
        seen = "| | " if scan is None else f"| {scan.displaced_px:.2f} | {scan.brightness:.4f} "
        rows.append(f"| {path.name} | {index} {seen}| {seconds:.1f} |")
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--sampling", type=float, metavar="Å", help="per pixel, if a file has none")
    options = parser.parse_args()
    reading = FileSettings(sampling_angstrom=options.sampling, straightener=Straightener())
    print("| file | frame | displaced, px rms | brightness, of the mean | s |")
    print("|---|--:|--:|--:|--:|")
    for path in options.files:
        print("\n".join(rows_of(path, reading)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
