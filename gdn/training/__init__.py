"""Everything that is needed to make a generator: simulation, datasets, networks, the loop,
export."""
