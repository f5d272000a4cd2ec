"""Random specimens of any common crystal, for simulated micrographs."""
