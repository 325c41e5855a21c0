"""Tests of hoopfast.identity; `minting` makes the good and the forged tokens that tests/control uses too."""
