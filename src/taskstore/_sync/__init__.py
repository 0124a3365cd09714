"""Brings the cache to what the logs say, and compares the two."""
