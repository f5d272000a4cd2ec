"""Check a built wheel's list of files: everything needed is in it, nothing else. Run by CI."""

from __future__ import annotations

import sys
import zipfile

NEEDED = [
    "gdn/cli/__init__.py",
    "gdn/engines/onnxruntime.py",
    "gdn/recipes/range.toml",
    "gdn/recipes/dcgan.toml",
    "gdn/models/pt-ceo2-64/model.json",
    "gdn/models/pt-ceo2-64/weights.safetensors",
    "gdn/models/pt-ceo2-64/generator.onnx",
    "gdn/models/pt-ceo2-64/gradient.onnx",
    "gdn/models/pt-ceo2-64/encoder.onnx",
    "gdn/models/pt-ceo2-64/calibration.json",
    "gdn/models/pt-ceo2-128/calibration.json",
    "gdn/models/pt-ceo2-128/model.json",
    "gdn/models/pt-ceo2-128/weights.safetensors",
    "gdn/models/pt-ceo2-128/tangent.onnx",
    "gdn/models/pt-ceo2-128/step.onnx",
    "gdn/recipes/range-128-fine.toml",
    "gdn/evaluation/demo_waves/frame1.npz",
    "gdn/models/pt-ceo2-wide-128/weights.safetensors",
    "gdn/models/pt-ceo2-wide-128/calibration.json",
    "gdn/models/restore/weights.safetensors",
    "gdn/models/restore/restorer.onnx",
    "gdn/evaluation/demo_waves/frame4.npz",
    "gdn/simulation/lobato.npy",
    "gdn/viewer/napari.json",
    "gdn/py.typed",
]
# unpacked; the comparators' U-Nets would make it 41, weights that lie in a model twice 50
MOST_MIB = 38
SUFFIXES = (
    ".py",
    ".toml",
    ".json",
    ".jsonl",
    ".onnx",
    ".safetensors",
    ".npz",
    ".npy",
    ".png",
    "py.typed",
)


def main(path: str) -> int:
    names = zipfile.ZipFile(path).namelist()
    missing = [n for n in NEEDED if n not in names]
    inside = [n for n in names if ".dist-info/" not in n]
    strange = [n for n in inside if not n.startswith("gdn/") or not n.endswith(SUFFIXES)]
    if missing or strange:
        print(f"{path}: missing {missing}; unexpected {strange}")
        return 1
    mib = sum(i.file_size for i in zipfile.ZipFile(path).infolist()) / 2**20
    print(f"{path}: {len(inside)} files, {mib:.1f} MiB; at most {MOST_MIB} MiB are wanted")
    return int(mib > MOST_MIB)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
