"""The cache: declarative models in a database, which answer queries and can always be rebuilt."""
