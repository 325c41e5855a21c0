"""From journal to audit trail: decode segments, build events, ship them to sinks, search and replay them."""
