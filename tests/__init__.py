"""The tests mirror the package; `gateway/` runs the whole product against real PostgreSQL with real clients."""
