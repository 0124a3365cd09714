"""Filters and orders as data, and what they mean in Python; knows nothing of SQL."""
