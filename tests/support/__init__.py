"""Helpers of the tests: real servers, a gateway under test, raw protocol clients. Nothing here is a test."""
