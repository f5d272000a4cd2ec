"""Formats of electron microscopy that gdn does not read, and what to do with their files."""

from __future__ import annotations

from pathlib import Path

from gdn.frames.source import FrameError

_SUM = "sum its frames into an MRC or TIFF file"
_REAL_SPACE = "gdn denoises images of real space"
# By suffix: what such a file is, and how to make one that gdn reads.
_UNREAD = {
    ".eer": (
        "single electron events (EER), hundreds of nearly empty frames",
        f"{_SUM} (relion_convert_to_tiff, or IMOD's clip)",
    ),
    ".mib": (
        "frames of a Merlin/Medipix detector, without a pixel size",
        "load it by HyperSpy and save the image as .hspy or .tif",
    ),
    ".tvips": ("a TVIPS movie", "export it as TIFF from EMMENU, or load and save it by HyperSpy"),
    ".blo": ("a scan of diffraction patterns (NanoMegas)", _REAL_SPACE),
    ".gtg": ("a raw Gatan K2 recording", f"{_SUM}, or export .dm4 from DigitalMicrograph"),
    ".seq": ("a raw movie (StreamPix)", f"{_SUM} with the detector's own program"),
    ".tpx3": ("single electron events (Timepix3)", "integrate them into frames and save a TIFF"),
    ".cbf": ("a diffraction frame (CBF)", _REAL_SPACE),
    ".dm5": ("a DigitalMicrograph 5 file", "save it as .dm4"),
    ".bcf": ("a Bruker spectrum image", "export its image as TIFF"),
    ".rpl": ("a Ripple description of raw data", "load and save it by HyperSpy as .hspy"),
    ".jpg": ("a JPEG picture; its compression has changed the noise", "export the image as TIFF"),
    ".jpeg": ("a JPEG picture; its compression has changed the noise", "export the image as TIFF"),
    ".bmp": ("a bitmap picture", "save it as TIFF or PNG"),
}


def check_read(path: Path, suffix: str | None = None) -> None:
    """Raises FrameError for a file of a format that gdn knows but does not read (by its `suffix`;
    None: that of its name)."""
    known = _UNREAD.get(suffix or path.suffix.lower())
    if known is not None:
        what, remedy = known
        raise FrameError(f"{path}: {what}, which gdn does not read; {remedy}")
