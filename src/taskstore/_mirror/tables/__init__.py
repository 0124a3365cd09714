"""Reads and writes the rows of mirrored tables."""
