"""Runs tk_r_em for rivals.py, with the Python of an environment of its own (it is GPL, and its
TensorFlow 2.15 cannot live beside gdn's NumPy):

    pip install "tensorflow-cpu==2.15.*" tk_r_em

`sfr_hrtem` restores HRTEM frames and `sfr_hrstem` HAADF and ABF: its networks for atomic
resolution. They do not mind scale and offset. The result is the mean over the eight turns and
reflections of the square. Edges are mirrored to a multiple of 16 pixels; the package pads odd sides
with a constant.
"""

import os
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
os.environ |= {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

import numpy as np
from rival_worker import Image, Request, serve
from tk_r_em import load_network

PAD = 8  # px mirrored on each side, at least


def over_turns(network: Any, image: Image) -> Image:
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
    opened: dict[str, Any] = {}

    def restore(image: Image, request: Request) -> Image:
        name = request["network"]
        if name not in opened:
            opened[name] = load_network(name)
        return over_turns(opened[name], image)

    serve(restore)


if __name__ == "__main__":
    main()
