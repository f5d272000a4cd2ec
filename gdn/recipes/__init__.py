"""A training recipe: a small TOML file, validated, with the settings of one run and their
version."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gdn import models


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Network(_Section):
    """Shape of the networks; `sampling_angstrom` is that of one generated pixel."""

    latent: int = Field(100, ge=1, le=4096)
    patch: int = Field(64, ge=8, le=512, description="px; a power of two times `coarse`")
    coarse: int = Field(4, ge=2, le=64, description="px of the coarsest map")
    channels: Literal[1, 3] = 1
    base_channels: int = Field(64, ge=4, le=512)
    channel_cap: int = Field(1024, ge=8, le=4096)
    stem: Literal["linear", "mlp", "grid"] = Field("linear", description="how the latent enters")
    body: Literal["conv", "style", "waves"] = Field(
        "conv", description="plain, style-modulated, or carrying plane waves"
    )
    waves: int = Field(16, ge=1, le=256, description="plane waves of the body 'waves'")
    rungs: tuple[int, ...] = Field(
        (), description="latents per pixel of each finer map; the stem gets the other latents"
    )
    rung_width: int = Field(
        64,
        ge=4,
        le=512,
        description="channels of the encoder at the maps that give the finer latents",
    )
    flow: int = Field(
        0, ge=0, le=32, description="coupling layers between N(0, I) and the latents; 0: none"
    )
    flow_width: int = Field(32, ge=4, le=512)
    residual: int = Field(
        0, ge=0, le=8, description="residual blocks at each of the three coarsest maps"
    )
    discriminator_norm: bool = Field(True, description="batch norm in the discriminator")
    scales: int = Field(4, ge=1, le=6, description="resolutions of the recipe 'unet'")
    initialisation: Literal["dcgan", "he"] = "dcgan"
    sampling_angstrom: float = Field(0.4, gt=0)
    intensity_scale: float = Field(
        0.9, gt=0, description="x = 1 + scale * network output, vacuum = 1"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        ratio = self.patch // self.coarse
        if self.patch % self.coarse or ratio < 2 or ratio & (ratio - 1):
            raise ValueError(f"patch {self.patch} is not a power of two times coarse {self.coarse}")
        if len(self.rungs) > ratio.bit_length() - 2 or min(self.rungs, default=0) < 0:
            raise ValueError(
                f"rungs {self.rungs}: one for each map between the coarsest and the last at most"
            )
        if self.stem_latent < 1 or (self.stem == "grid" and self.stem_latent % self.coarse**2):
            left = f"latent {self.latent} leaves {self.stem_latent} to the stem"
            raise ValueError(f"{left} '{self.stem}' of {self.coarse}x{self.coarse} cells")
        return self

    @property
    def stem_latent(self) -> int:
        """Latents that enter at the coarsest map."""
        return self.latent - sum(
            n * (self.coarse << (i + 1)) ** 2 for i, n in enumerate(self.rungs)
        )


class Optimiser(_Section):
    """Adam's settings. Lengths are counted in images, so that the batch size does not change their
    meaning."""

    images: int = Field(1_000_000, ge=1)
    batch: int = Field(64, ge=2)
    lr_generator: float = Field(1e-4, gt=0)
    lr_discriminator: float = Field(4e-4, gt=0)
    lr_encoder: float = Field(1e-3, gt=0)
    beta1: float = Field(0.5, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    warmup_images: int = Field(0, ge=0)
    decay_from: float = Field(
        1.0, ge=0, le=1, description="share of the run after which lr falls (cosine)"
    )
    ema_images: int = Field(
        0, ge=0, description="half-life of the averaged generator; 0 keeps none"
    )
    bf16: bool = True
    freeze_norm_from: float = Field(
        1.0, ge=0, le=1, description="share of the run after which batch norm is constant"
    )


class Loss(_Section):
    """`gan`: only the adversarial loss. `range`: encoder, likelihood and a small adversarial term.
    `unet`: squared error."""

    kind: Literal["gan", "range", "unet"] = "gan"
    adversary: Literal["bce", "relativistic"] = Field(
        "bce", description="the study's loss, or the relativistic pairing one"
    )
    gradient_penalty: float = Field(
        0.0, ge=0, description="R1 and R2 weight, with the relativistic loss"
    )
    label_smoothing: float = Field(0.9, gt=0, le=1)
    sigma: float = Field(
        0.02, gt=0, description="Gaussian likelihood of the clean image, vacuum units"
    )
    kl_weight: float = Field(1.0, ge=0)
    adversarial_weight: float = Field(0.0, ge=0)
    prior_share: float = Field(
        0.25, ge=0, le=1, description="random latents per encoded latent in each batch"
    )
    noisy_share: float = Field(0.5, ge=0, le=1)
    log10_dose: tuple[float, float] = Field(
        (0.7, 4.0), description="electrons per generated pixel, uniform in log"
    )
    unknown_share: float = Field(
        1.0,
        ge=0,
        description="share of the error that remains if all latents are fitted to the counts",
    )
    cut_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of images that are cut as if by a frame's edge before they are encoded",
    )
    detector_share: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of the noisy images with a detector's noise: blurred, lines, gain",
    )
    condition_weight: float = Field(
        0.0, ge=0, description="weight, nats: makes the first latents defocus and thickness"
    )


class Stream(_Section):
    """How training patches are drawn from stored waves or from an array of images."""

    seed: int = 0
    patches_per_image: int = Field(16, ge=1)
    reservoir: int = Field(8192, ge=64)
    fresh_share: float = Field(
        0.5, gt=0, le=1, description="share of each batch that is newly rendered"
    )
    augment: bool = Field(True, description="random rotation, reflection and shift of every patch")


class Imaging(_Section):
    """Imaging conditions of the rendered images. Two numbers are a range; one number is the
    deviation of a half-normal distribution. The defaults are one aberration-corrected microscope at
    underfocus."""

    defocus_nm: tuple[int, int] = Field(
        (0, 20), description="in steps of 1 nm; positive is underfocus"
    )
    spherical_um: tuple[float, float] = (-13, 3)
    astigmatism_nm: float = Field(1.0, ge=0)
    coma_nm: float = Field(20.0, ge=0)
    trefoil_nm: float = Field(20.0, ge=0)
    focal_spread_nm: tuple[float, float] = (2.5, 4.5)
    source_mrad: tuple[float, float] = (0.05, 0.25)
    blur_angstrom: tuple[float, float] = (0.42, 0.6)
    camera_angstrom: tuple[float, float] = Field(
        (0.0, 0.0), description="c in the camera's transfer, (1 + (2 pi k c)^2)^(-3/4)"
    )
    magnification: tuple[float, float] = Field(
        (1.0, 1.0), description="factors: other lattice constants, or an inexact sampling"
    )
    most_contrast: float = Field(
        0.0, ge=0, description="limit of |x - 1|; a patch beyond it is scaled to it; 0: no limit"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for name, value in self:
            if isinstance(value, tuple) and value[0] > value[1]:
                raise ValueError(f"{name} {list(value)}: the smaller number comes first")
        not_negative = (
            self.focal_spread_nm,
            self.source_mrad,
            self.blur_angstrom,
            self.camera_angstrom,
        )
        if self.magnification[0] <= 0 or min(least for least, _ in not_negative) < 0:
            raise ValueError(
                "magnification is above 0; focal_spread_nm, source_mrad, blur_angstrom and "
                "camera_angstrom are not below it"
            )
        return self


class Specimen(_Section):
    """What the images show. The defaults are those of all recipes from before this section
    existed."""

    description: str = Field(
        "Pt nanoparticles on CeO2", min_length=1, description="the specimen's name in model.json"
    )
    source: str = Field(
        "pt-ceo2",
        description="scenes of 'gdn simulate' (files: of structures of your own), or any: crystals "
        "in any mode",
    )
    energies_kv: tuple[Annotated[float, Field(gt=0, le=3000)], ...] = Field(
        (300.0,),
        min_length=1,
        description="beam energies; each structure gets one of them",
    )

    @model_validator(mode="after")
    def _one_energy(self) -> Self:
        if self.source != "any" and len(self.energies_kv) > 1:
            raise ValueError(
                f"energies_kv {list(self.energies_kv)}: the source '{self.source}' has one"
            )
        return self

    def card(self) -> models.SpecimenCard:
        """The same settings for `model.json`: without a voltage if there are several."""
        several = len(set(self.energies_kv)) > 1
        return models.SpecimenCard(
            material=self.description, voltage_kv=None if several else self.energies_kv[0]
        )


class Recipe(_Section):
    """All settings of a run."""

    schema_version: Literal[1] = 1
    name: str
    specimen: Specimen = Specimen()
    network: Network = Network()
    optimiser: Optimiser = Optimiser()
    loss: Loss = Loss()
    stream: Stream = Stream()
    imaging: Imaging = Imaging()


def shipped_recipes() -> list[str]:
    """Names of the recipes inside the package."""
    return sorted(
        p.name.removesuffix(".toml") for p in _folder().iterdir() if p.name.endswith(".toml")
    )


def _folder() -> resources.abc.Traversable:
    return resources.files("gdn.recipes")


def load_recipe(name_or_file: str) -> Recipe:
    """A shipped recipe by name, or one from a TOML file. Raises ValueError in one line."""
    path = Path(name_or_file)
    if path.suffix == ".toml":
        if not path.is_file():
            raise ValueError(f"{path}: no such recipe file")
        text = path.read_text()
    elif name_or_file in shipped_recipes():
        text = (_folder() / f"{name_or_file}.toml").read_text()
    else:
        raise ValueError(
            f"unknown recipe '{name_or_file}'; shipped: {', '.join(shipped_recipes())}; "
            "or give a .toml file"
        )
    try:
        return Recipe.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{name_or_file}: not valid TOML ({error})") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{name_or_file}: {where}: {first['msg']}") from None
