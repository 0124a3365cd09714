"""Everything that can be wrong with a store and its place in git: found, reported, and fixed."""
