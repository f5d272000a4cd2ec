"""Which array of a file is meant: the only image, or the one that is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gdn.frames.axes import Axis, image_axes, objection
from gdn.frames.source import FrameError, too_small

MOST_LISTED = 8
# What detectors and programs keep beside their images: taken only where it is named.
_MASKS = (
    r"((bad|dead|hot|pixel|beam_?stop)[_\- ]?)?(mask|pixels)|flat[_\- ]?(field)?"
    r"|gain[_\- ]?(map|ref\w*)?|defects?([_\- ]map)?"
)
_CORRECTIONS = (
    r"dark[_\- ]?(field|frame|current|ref\w*)?|offset|pedestal|background|trimbit"
    r"|saturation[_\- ]?value|(count)?rate[_\- ]?correction\w*|lookup[_\- ]?table"
    r"|errors?|uncertaint(y|ies)|weights|variance|std|preview|thumbnail|icon|screenshot"
)
_ENDING = r"([_\- ](array|image|map|data|applied|\d+))?"
_MICROSCOPE = re.compile(rf"(.*[_\- ])?({_MASKS}){_ENDING}", re.IGNORECASE)
_DETECTOR = re.compile(rf"(.*[_\- ])?({_MASKS}|{_CORRECTIONS}){_ENDING}", re.IGNORECASE)


@dataclass(kw_only=True)
class Arrays:
    """The arrays of a file by name.

    - `path`: of the file.
    - `images`: possible images.
    - `named_only`: a detector's masks and gains, which are used only if they are named.
    - `refused`: the other arrays, and why they cannot be used.
    """

    path: Path
    titles: bool = False  # names are titles of images: 'dark field' is then a way to make one
    images: dict[str, Any] = field(default_factory=dict)
    named_only: dict[str, Any] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        name: str,
        data: Any,
        axes: Sequence[Axis] = (),
        signal_type: str = "",
        wrong: str = "",
    ) -> None:
        """Put an array (anything with shape and dtype) into its group. `axes` and `signal_type` are
        those that its file states; `wrong` is any other reason against it."""
        wrong = wrong or (objection(axes, signal_type) if axes else "")
        wrong = wrong or unlike_image(data, image_axes(axes) if len(axes) > 1 else (-2, -1))
        if wrong:
            self.refused[name] = wrong
        elif is_detector_array(name, self.titles):
            self.named_only[name] = data
        else:
            self.images[name] = data

    def knows(self, name: str) -> bool:
        """Whether there is an array of a name, an image or not."""
        return name.strip("/") in self.images | self.named_only | self.refused

    def chosen(self, dataset: str | None) -> Any:
        """The image that is meant. Raises FrameError, with a list of the images, if that is not
        clear."""
        if dataset is not None:
            return self._named(dataset.strip("/"))
        if len(self.images) == 1:
            return next(iter(self.images.values()))
        if self.images:
            raise FrameError(
                f"{self.path}: holds {len(self.images)} images; name one of them: "
                f"{_listed(self.images)}",
                "dataset",
            )
        if self.named_only:
            raise FrameError(
                f"{self.path}: holds no image, only data of a detector or additions to an "
                f"image: {_listed(self.named_only)}; to denoise one of them, name it",
                "dataset",
            )
        if self.refused:
            raise FrameError(f"{self.path}: holds {_refusals(self.refused)}")
        raise FrameError(f"{self.path}: holds no image")

    def _named(self, name: str) -> Any:
        known = self.images | self.named_only
        if name in known:
            return known[name]
        inside = [path for path in self.images if path.startswith(f"{name}/")]
        if len(inside) == 1:  # a group, of which it is the one image
            return known[inside[0]]
        if name in self.refused:
            raise FrameError(f"{self.path}: {name}: {self.refused[name]}")
        raise FrameError(
            f"{self.path}: no image {name}; there are: {_listed(known) or 'none'}", "dataset"
        )


def _listed(arrays: dict[str, Any]) -> str:
    names = [f"{name} ({_size(array)})" for name, array in arrays.items()]
    more = f", and {len(names) - MOST_LISTED} more" if len(names) > MOST_LISTED else ""
    return ", ".join(names[:MOST_LISTED]) + more


def _refusals(refused: dict[str, str]) -> str:
    """The arrays that are there instead of an image, large ones first: usually they are what the
    file is for."""
    if len(refused) == 1:
        return next(iter(refused.values()))
    reasons = [f"{name}: {why}" for name, why in refused.items()]
    more = f"; and {len(reasons) - 2} more" if len(reasons) > 2 else ""
    return "no image of real space: " + "; ".join(reasons[:2]) + more


def _size(data: Any) -> str:
    return "x".join(map(str, data.shape))


def is_detector_array(name: str, title: bool = False) -> bool:
    """Whether a name, or the `title` of an image, is that of a mask, a gain or a similar array."""
    last = name.rstrip("/").rpartition("/")[2]
    pattern = _MICROSCOPE if title else _DETECTOR
    return "/labels/" in f"/{name}/" or bool(pattern.fullmatch(last))


def unlike_image(data: Any, image: tuple[int, int] = (-2, -1)) -> str:
    """Why an array cannot hold frames with the axes `image`, by its shape and dtype; '' if it
    can."""
    shape, dtype = tuple(data.shape), np.dtype(data.dtype)
    if dtype.names and {name.lower() for name in dtype.names} >= {"r", "g", "b"}:
        return "a colour picture; save it as one gray channel"
    if dtype.kind not in "uif":
        return f"an array {_size(data)} of type {dtype}; integers or real numbers are needed"
    if len(shape) < 2 or 0 in shape:
        return f"an array of shape {_size(data) or 'of one number'}; an image is needed"
    small = too_small((shape[image[0]], shape[image[1]]))
    return f"an array of {_size(data)} px; {small}" if small else ""
