"""The calls of `Store`."""
