"""Denoising from a frame or file to a tested and written result: `Denoiser`, and the code that the
command line shares with it."""
