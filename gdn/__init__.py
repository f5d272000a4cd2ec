"""gdn: denoise electron micrographs by searching the latent space of a GAN."""

__version__ = "0.1.0"
