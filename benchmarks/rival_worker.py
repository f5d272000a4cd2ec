"""The loop of a rival's process (`rival_methods.py`): one line of JSON in, one out.

A worker is run by the Python of an environment of its own, so it imports NumPy, and else only what
its rival needs. A request has

- the files `input` and `output` (.npy): an image on the binned grid, electrons per binned pixel, or
  for Gaussian noise the mean;
- the `network` of tk_r_em that is meant for the frame's mode;
- the `kind` of noise, and `sigma`, the deviation of a binned pixel where it is the same everywhere;
- the `seconds` of one core that a network may learn, and a `seed`.

The answer holds the seconds of processor time that the work took, and the largest memory of the
process so far.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]
Request = dict[str, Any]


def serve(restore: Callable[[Image, Request], Any]) -> None:
    """Answer requests until the input ends."""
    answers = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    for line in sys.stdin:
        request = json.loads(line)
        image = np.load(request["input"]).astype(np.float32)
        begun = time.process_time()
        made = np.asarray(restore(image, request), np.float32)
        seconds = time.process_time() - begun
        np.save(request["output"], made)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux gives KiB
        print(json.dumps({"seconds": seconds, "peak_mib": peak}), file=answers, flush=True)


def normalised(image: Image) -> tuple[Image, float, float]:
    """The image with mean 0 and deviation 1, and what was taken off and divided by."""
    mean, deviation = float(image.mean()), max(float(image.std()), 1e-9)
    return (image - np.float32(mean)) / np.float32(deviation), mean, deviation
