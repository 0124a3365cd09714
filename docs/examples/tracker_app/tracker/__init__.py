"""An issue tracker with a database of its own."""
