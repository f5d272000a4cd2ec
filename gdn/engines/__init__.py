"""Runtimes that evaluate a generator: the Engine protocol and one file per runtime."""
