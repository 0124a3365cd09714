"""An application's own tables as collections: what is declared, read, encoded and projected."""
