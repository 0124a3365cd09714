"""The parts of an open store: context, settings, catalog of record types, and sealed cache."""
