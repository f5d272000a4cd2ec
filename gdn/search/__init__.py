"""The search for latents: bank, scores, refinement, and the average of candidates. Pure functions
over an Engine."""
