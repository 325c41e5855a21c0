"""Nothing is lost and nothing stands twice: a gateway under load that is killed, starved and damaged at random.

PostgreSQL's own log is the witness. `python -m tests.durability --kills 200 --seed 1` is the long version of the test.
"""
