"""What an open store has: its context, settings, catalog of record types, and sealed cache."""
