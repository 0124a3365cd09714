"""Evolutions as data: how to read older lines in today's shape. Without any I/O."""
