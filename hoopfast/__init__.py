"""hoopfast: a PostgreSQL access gateway that knows who, records what, masks and asks."""

__version__ = "0.1.0"
