"""Record types: declaration, codec, index values. Pure: no file, no database."""
