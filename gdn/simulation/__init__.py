"""Structures, exit waves and images: what networks are trained on."""
