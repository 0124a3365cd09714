"""Stores whose rows are in PostgreSQL: triggers, the outbox, and the scribe that drains it."""
