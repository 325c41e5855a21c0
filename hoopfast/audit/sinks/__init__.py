"""Where events go. `base` says what the shipper asks of a sink and makes those that the configuration names."""
