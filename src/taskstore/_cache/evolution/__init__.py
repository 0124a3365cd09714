"""The evolutions that a database has applied, and the Alembic operations that state them."""
