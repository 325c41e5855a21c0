"""Letting a terminal in: a code is good once, for the terminal that began, for a while; letters cannot be guessed."""

from __future__ import annotations

import pytest

from hoopfast.control.principal import Refused
from hoopfast.control.terminals import (
    CODE_S,
    LETTERS,
    LETTERS_N,
    PER_ADDRESS_MAX,
    TRIES_MAX,
    TYPED_S,
    WAITING_MAX,
    Terminals,
    challenge_of,
)
from hoopfast.model import Identity

ADA = Identity(user="ada@example.com", subject="1", issuer="okta")
VERIFIER = "v" * 64
CHALLENGE = challenge_of(VERIFIER)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def terminals(clock: Clock) -> Terminals:
    return Terminals(clock)


def status_of(caught: pytest.ExceptionInfo[Refused]) -> int:
    return caught.value.status


def test_a_code_that_a_browser_carries_is_good_once(terminals: Terminals) -> None:
    code = terminals.grant(ADA, CHALLENGE, "ada@laptop", 3600.0)
    found = terminals.redeem(code, VERIFIER)
    assert found is not None
    assert (found.identity, found.name, found.ttl_s) == (ADA, "ada@laptop", 3600.0)
    with pytest.raises(Refused) as caught:
        terminals.redeem(code, VERIFIER)
    assert status_of(caught) == 404


def test_a_stolen_code_is_worth_nothing_and_is_spent(terminals: Terminals) -> None:
    code = terminals.grant(ADA, CHALLENGE, "x", 0)
    with pytest.raises(Refused) as caught:
        terminals.redeem(code, "w" * 64)
    assert status_of(caught) == 403
    with pytest.raises(Refused):
        terminals.redeem(code, VERIFIER)


def test_a_code_ends(terminals: Terminals, clock: Clock) -> None:
    code = terminals.grant(ADA, CHALLENGE, "x", 0)
    clock.now += CODE_S
    with pytest.raises(Refused):
        terminals.redeem(code, VERIFIER)


@pytest.mark.parametrize("challenge", ["", "x" * 42, "x" * 44, "é" * 43, "/" * 43])
def test_what_cannot_be_a_challenge(terminals: Terminals, challenge: str) -> None:
    for begin in (lambda: terminals.grant(ADA, challenge, "x", 0), lambda: terminals.begin(challenge, "", "x", 0)):
        with pytest.raises(Refused) as caught:
            begin()
        assert status_of(caught) == 400


def test_letters_are_typed_somehow(terminals: Terminals) -> None:
    code, letters = terminals.begin(CHALLENGE, "192.0.2.7:5000", "ada@build\n\x1b[2J", 0)
    assert len(letters) == LETTERS_N
    assert set(letters) <= set(LETTERS)
    assert terminals.redeem(code, VERIFIER) is None                 # not yet, and again
    assert terminals.redeem(code, VERIFIER) is None
    shown = terminals.look(ADA.user, f" {letters[:4].lower()}-{letters[4:]} ")
    assert (shown.peer, shown.name) == ("192.0.2.7:5000", "ada@build[2J")
    terminals.decide(ADA, letters, allow=True)
    with pytest.raises(Refused):
        terminals.look("eve@example.com", letters)                  # decided: nobody else can take it over
    found = terminals.redeem(code, VERIFIER)
    assert found is not None
    assert found.identity == ADA


def test_turned_away(terminals: Terminals) -> None:
    code, letters = terminals.begin(CHALLENGE, "unix", "x", 0)
    terminals.decide(ADA, letters, allow=False)
    with pytest.raises(Refused) as caught:
        terminals.redeem(code, VERIFIER)
    assert status_of(caught) == 403


def test_letters_end(terminals: Terminals, clock: Clock) -> None:
    code, letters = terminals.begin(CHALLENGE, "unix", "x", 0)
    clock.now += TYPED_S
    with pytest.raises(Refused):
        terminals.look(ADA.user, letters)
    with pytest.raises(Refused):
        terminals.redeem(code, VERIFIER)


def test_letters_cannot_be_guessed(terminals: Terminals, clock: Clock) -> None:
    _, letters = terminals.begin(CHALLENGE, "unix", "x", 0)
    for _ in range(TRIES_MAX):
        with pytest.raises(Refused) as caught:
            terminals.look("eve@example.com", "BBBBBBBB" if letters != "BBBBBBBB" else "CCCCCCCC")
        assert status_of(caught) == 404
    with pytest.raises(Refused) as caught:
        terminals.look("eve@example.com", letters)
    assert status_of(caught) == 429
    terminals.look(ADA.user, letters)                               # others are not kept out by that
    clock.now += TYPED_S
    _, letters = terminals.begin(CHALLENGE, "unix", "x", 0)
    terminals.look("eve@example.com", letters)


def test_strangers_cannot_fill_the_room(terminals: Terminals, clock: Clock) -> None:
    for port in range(PER_ADDRESS_MAX):
        terminals.begin(CHALLENGE, f"192.0.2.7:{port}", "x", 0)
    with pytest.raises(Refused) as caught:
        terminals.begin(CHALLENGE, "192.0.2.7:9", "x", 0)
    assert status_of(caught) == 429
    terminals.begin(CHALLENGE, "192.0.2.8:9", "x", 0)
    for number in range(WAITING_MAX - PER_ADDRESS_MAX - 1):
        terminals.begin(CHALLENGE, f"[2001:db8::{number:x}]:9", "x", 0)
    with pytest.raises(Refused):
        terminals.begin(CHALLENGE, "192.0.2.9:9", "x", 0)
    clock.now += TYPED_S
    terminals.begin(CHALLENGE, "192.0.2.7:9", "x", 0)
