"""SQLAlchemy engines and SQLite connections, and what may be done on them."""
