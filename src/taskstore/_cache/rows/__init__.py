"""Reading and writing the rows of the cache."""
