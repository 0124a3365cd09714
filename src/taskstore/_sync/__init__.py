"""Update the cache from the logs, and compare the two."""
