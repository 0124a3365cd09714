"""From changed rows of mirrored tables to lines."""
