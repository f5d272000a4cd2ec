"""Runs N2V2 (Höck et al. 2022; Noise2Void: Krull et al. 2019) by CAREamics for rivals.py, with the
Python of an environment of its own:

    pip install torch lightning torchmetrics bioimageio-core matplotlib microssim psutil pyyaml \\
        scikit-image "tifffile<=2026.3.3" "zarr>=3"
    pip install --no-deps careamics

CAREamics pins a torchvision, which its Noise2Void does not use: an empty module stands in for it.
Patches of 64 px, batches of 16, its own settings else; as many epochs as the seconds of the request
allow, on the frame itself.
"""

import logging
import sys
import tempfile
import time
import types
import warnings
from typing import Any

import torchmetrics.image  # noqa: F401  # first: it looks for torchvision, and would use it

# Before CAREamics, which imports these for what is not used here.
for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = types.ModuleType(name)
vars(sys.modules["torchvision"])["__version__"] = "0"
vars(sys.modules["torchvision.transforms"])["functional"] = sys.modules[
    "torchvision.transforms.functional"
]

import numpy as np
import torch
from careamics import CAREamist
from careamics.config.factories import create_n2v_config
from lightning.pytorch.callbacks import Callback
from rival_worker import Image, Request, serve

EPOCHS = 200
MULTIPLE = 16


class Deadline(Callback):  # type: ignore[misc]
    """Stops the training when this process has used its seconds."""

    def __init__(self, seconds: float) -> None:
        self._end = time.process_time() + seconds

    def on_train_batch_end(self, trainer: Any, *_: object) -> None:
        trainer.should_stop = trainer.should_stop or time.process_time() > self._end


def restore(image: Image, request: Request) -> Image:
    """Train on the image, then predict it, mirrored to a multiple of 16 px."""
    config = create_n2v_config(
        "rival",
        "array",
        "YX",
        [64, 64],
        16,
        num_epochs=EPOCHS,
        n_val_patches=1,  # a binned frame has few patches
        use_n2v2=True,
    )
    config.data_config.seed = 1 + request["seed"]  # zero is refused
    with tempfile.TemporaryDirectory() as folder:
        learner = CAREamist(
            config,
            work_dir=folder,
            callbacks=[Deadline(request["seconds"])],
            enable_progress_bar=False,
        )
        learner.train(train_data=image)
        spans = [(0, -n % MULTIPLE) for n in image.shape]
        made, _ = learner.predict(np.pad(image, spans, mode="reflect"))
    return np.asarray(made[0], np.float32).squeeze()[: image.shape[0], : image.shape[1]]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    serve(restore)
