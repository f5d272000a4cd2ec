"""What a denoising is, from a frame to its judged and written result: `Denoiser`, and what the
command line shares with it."""
