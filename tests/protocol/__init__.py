"""The protocol: what is read and written, and that through the gateway it is PostgreSQL's own."""
