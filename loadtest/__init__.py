"""Many people at work: `make load` runs `loadtest.run`, which starts everything and lets locust loose on it."""
