"""What the terms of the report mean, a line each."""

from __future__ import annotations

from html import escape

TERMS = (
    ("dose", "mean number of electrons per pixel in vacuum, as estimated from the frame or given"),
    ("vacuum level", "the intensity of the empty beam; errors are given in per cent of it"),
    (
        "p",
        "share of simulated frames that fit the generator as badly as this frame or worse. Below "
        "0.01 the generator cannot explain the frame: do not rely on spread and columns",
    ),
    (
        "what it may be used for",
        "a plain rule from p and the comparison with the best blur: explained, filtered, or not "
        "supported (docs/trust.md)",
    ),
    (
        "error expected",
        "root mean square error of the denoised image, as its spread predicts it, in per cent of "
        "the vacuum level",
    ),
    (
        "against best blur, against flat",
        "gdn denoised three quarters of the electrons; its image is compared on the other quarter "
        "with a Gaussian blur of the best width, and with a flat image. The gain is that of the "
        "mean squared error; ± is one standard error",
    ),
    (
        "nothing to resolve",
        "the electrons cannot tell gdn's image from the other one: in an empty field there is "
        "nothing to gain",
    ),
    (
        "spread",
        "half-width of the interval that holds the truth in 68 of 100 pixels, as measured on "
        "simulated frames of the kind the model was trained for",
    ),
    (
        "present, cannot tell, absent",
        "each column in the image is tested against the counts, at the stated false-discovery "
        "rate; missing: the counts show a column where the image has none",
    ),
    ("residual", "counts minus the result, divided by their noise; structure in it was not drawn"),
    ("misfit", "where the generator's image does not fit the counts, in standard deviations"),
    (
        "contrast by candidate",
        "the result is a mixture of candidates (generator, restorer, filters); electrons held out "
        "of the frame chose their shares",
    ),
    ("spectrum (FFT)", "lattice spacings are spots; the rings are at 0.2 and 0.1 nm"),
    ("objective", "what the search minimises, in nats; smaller fits better"),
)
NOTHING = (
    "Nothing to resolve: these electrons cannot tell the denoised image from a flat one. What its "
    "picture shows is no finding: see the bar of grays below it for how weak it is."
)


def unexplained(learned: bool = False, movie: bool = False) -> str:
    """What to do where the generator cannot explain a frame. `learned`: gdn has learned from the
    recording already. `movie`: the frames may be a movie, and were denoised each alone."""
    options = "--movie on --adapt, if its frames show one object" if movie else "--adapt"
    learn = "" if learned else f"let gdn learn from the recording ({options}), "
    return (
        "What it may be: a wrong pixel size, a field too small to hold the crystal, or another "
        "specimen or contrast than those that the generator was trained for. What to do: check "
        f"the pixel size (--sampling), {learn}or train a model of your own "
        "(docs/howto/own-specimen.md)."
    )


def glossary() -> str:
    """The terms as HTML."""
    lines = "".join(f"<dt>{escape(term)}</dt><dd>{escape(words)}</dd>" for term, words in TERMS)
    closing = "None of this replaces a second recording of the same object."
    return (
        f"<details><summary>What the words mean</summary><dl>{lines}</dl><p>{closing}</p></details>"
    )
