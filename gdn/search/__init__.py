"""Latent search: likelihood, bank and scoring, refinement, posterior. Pure functions over an
Engine."""
