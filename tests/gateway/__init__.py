"""The whole product against real PostgreSQL, with the clients people use. One gateway per module."""
