"""What the database knows of evolutions, and the Alembic operations that say so."""
