"""Find, report and fix everything that can be wrong with a store and its installation in git."""
