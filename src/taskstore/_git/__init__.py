"""Queries of git, and the installation in it."""
