"""The store's own records in PostgreSQL."""
