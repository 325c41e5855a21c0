"""The compiled core, part by part."""
