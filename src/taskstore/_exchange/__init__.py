"""Records in and out of other formats: JSON Lines, JSON and CSV."""
