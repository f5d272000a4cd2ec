"""Checks before any work whether gdn can denoise frames of a pixel size."""

from __future__ import annotations

from gdn.errors import InputError

FINEST, COARSEST = 0.01, 5.0  # Å per pixel: beyond these it is another unit, whatever the model
# Recorded pixels may be this many times as long as those of the generator. With its 0.4 Å the limit
# is 1 Å, where two pixels make the spacing of atomic columns (about 2 Å, Nyquist): a coarser frame
# shows no columns, and enlarging it costs time that grows with the square of the pixel size.
ENLARGEMENT = 2.5
_REMEDY = "if this is wrong, give the right pixel size in Å per pixel"


def check_pixel_size(sampling_angstrom: float, model_angstrom: float) -> None:
    """Raises InputError if the recorded pixels are much larger than the model's (both in Å), or
    impossibly small."""
    coarsest = ENLARGEMENT * model_angstrom
    size = f"its pixel size is {sampling_angstrom:.4g} Å"
    if sampling_angstrom > coarsest:
        raise InputError(
            f"{size}, and pixels above {coarsest:.3g} Å ({ENLARGEMENT:g} times the "
            f"model's {model_angstrom:g} Å) show no atomic columns; {_REMEDY}",
            "sampling",
        )
    if sampling_angstrom < FINEST:
        raise InputError(
            f"{size}, smaller than any microscope records (below {FINEST:g} Å); {_REMEDY}",
            "sampling",
        )
