"""How Alembic finds the tracker's database."""

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from tracker.models import Base

url = context.config.get_main_option("sqlalchemy.url")
assert url is not None

with create_engine(url, poolclass=NullPool).begin() as connection:
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=True,
    )
    with context.begin_transaction():
        context.run_migrations()
