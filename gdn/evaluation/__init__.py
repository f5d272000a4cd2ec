"""Noise suites, metrics, comparators and tables."""
