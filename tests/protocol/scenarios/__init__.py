"""Conversations as data, by subject. What they speak of is made by SCHEMA; `items` has ten rows, `arrivals` none."""

from __future__ import annotations

SCHEMA = (
    "CREATE TABLE items (id int PRIMARY KEY, label text, price numeric(10,2))",
    "INSERT INTO items SELECT i, 'item ' || i, i * 1.25 FROM generate_series(1, 10) i",
    "CREATE TABLE arrivals (id int CHECK (id > 0), note text)",
    "CREATE TABLE ruled (id int)",
    "CREATE RULE also AS ON INSERT TO ruled DO ALSO SELECT * FROM items ORDER BY id",
    "CREATE RULE once_more AS ON INSERT TO ruled DO ALSO SELECT id FROM items WHERE id < 3",
    "CREATE TABLE later (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE people (id int, ssn text)",
    "INSERT INTO people VALUES (1, 'CANARY-SSN-DUAL')",
    """CREATE FUNCTION noisy(n int) RETURNS int LANGUAGE plpgsql AS
       $$ BEGIN FOR i IN 1..n LOOP RAISE NOTICE 'noise %', i; END LOOP; RETURN n; END $$""",
)
