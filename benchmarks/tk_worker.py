"""Runs tk_r_em for rivals.py, with the Python of an environment of its own (tensorflow-cpu 2.15,
tk_r_em; it is GPL).

Reads one JSON object a line, {"model", "input", "output"}: a binned image as .npy, to be restored
by the network `model` and written to `output`; answers each with a line. The network does not mind
scale and offset. The result is the mean over the eight turns and reflections of the square. Edges
are mirrored to a multiple of 16 pixels; the package pads odd sides with a constant.
"""

import json
import os
import sys
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import numpy as np
from numpy.typing import NDArray
from tk_r_em import load_network

PAD = 8  # px mirrored on each side, at least


def restored(network: Any, image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean over eight orientations, each turned back."""
    spans = [(PAD, PAD + -(n + 2 * PAD) % 16) for n in image.shape]
    wide = np.pad(image, spans, mode="reflect")
    images = []
    for turns in range(4):
        for mirrored in (False, True):
            seen = np.rot90(wide[:, ::-1] if mirrored else wide, turns)
            made = np.asarray(
                network.predict(seen[None, ..., None].astype(np.float32), verbose=0)
            ).squeeze()
            made = np.rot90(made, -turns)
            images.append(made[:, ::-1] if mirrored else made)
    mean = np.asarray(np.mean(images, 0), np.float32)
    return mean[PAD : PAD + image.shape[0], PAD : PAD + image.shape[1]]


def main() -> None:
    networks: dict[str, Any] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        name = asked["model"]
        networks.setdefault(name, None)
        if networks[name] is None:
            networks[name] = load_network(name)
        np.save(
            asked["output"], restored(networks[name], np.load(asked["input"])).astype(np.float32)
        )
        print("done", flush=True)


if __name__ == "__main__":
    main()
