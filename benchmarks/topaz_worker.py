"""Runs Topaz-Denoise (Bepler et al. 2020) for rivals.py, with the Python of an environment of its
own (it is GPL; its weights are in the package; the torchvision that it asks for is not needed):

    pip install torch numpy scipy tqdm pandas h5py psutil scikit-learn pillow future \\
        "setuptools<81"
    pip install --no-deps topaz-em

Its default network `unet`, trained on pairs of half-movies of cryo-micrographs at many doses; mean
over the eight turns and reflections of the square, as tk_r_em gets.
"""

import numpy as np
from rival_worker import Image, Request, serve
from topaz.denoise import Denoise


def main() -> None:
    network = Denoise("unet")

    def restore(image: Image, request: Request) -> Image:
        images = []
        for turns in range(4):
            for mirrored in (False, True):
                seen = np.rot90(image[:, ::-1] if mirrored else image, turns)
                made = np.rot90(network.denoise(np.ascontiguousarray(seen)), -turns)
                images.append(made[:, ::-1] if mirrored else made)
        return np.asarray(np.mean(images, 0), np.float32)

    serve(restore)


if __name__ == "__main__":
    main()
