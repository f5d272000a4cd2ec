"""The generator in torch: its networks, its folded form with derivatives written by hand, its
weights and graphs."""
