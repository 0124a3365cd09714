"""The tables of the cache: their models, and the migrations between their layouts."""
