"""An application's own tables as collections; the folders below know it by protocols only."""
