"""Train and export a generator or a restorer: streams of patches, losses, the loop, the run's
state, export."""
