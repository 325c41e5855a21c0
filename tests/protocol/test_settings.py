"""Startup settings on their way upstream: the person shows, and masked sessions are pinned."""

from __future__ import annotations

import pytest

from hoopfast.errors import ClientFault
from hoopfast.protocol.settings import application_name, check_reported, upstream_settings


@pytest.mark.parametrize(("person", "client", "name"), [
    ("ana@example.com", "psql", "ana@example.com psql"),
    ("ana@example.com", "", "ana@example.com"),
    ("a\nb", "c\x00d", "a?b c?d"),
    ("x" * 60, "psql", "x" * 60 + " ps"),
    ("é" * 31, "ü", "é" * 31),                      # 62 bytes, a space, and no room for half a letter
])
def test_application_name(person: str, client: str, name: str) -> None:
    assert application_name(person, client) == name
    assert len(name.encode()) <= 63


@pytest.mark.parametrize(("order", "person", "client", "name"), [
    ("client-first", "ana@example.com", "psql", "psql ana@example.com"),
    ("client-first", "ana@example.com", "", "ana@example.com"),
    ("client-first", "ana@example.com", "x" * 63, "x" * 47 + " ana@example.com"),
    ("client-first", "p" * 80, "psql", "p" * 63),
    ("client", "ana@example.com", " psql\t", "psql"),
    ("client", "ana@example.com", "", ""),
    ("client", "ana@example.com", "é" * 40, "é" * 31),
])
def test_application_name_in_another_order(order: str, person: str, client: str, name: str) -> None:
    assert application_name(person, client, order) == name
    settings = upstream_settings({"application_name": client}, person, masked=False, order=order)
    assert settings["application_name"] == name
    assert len(name.encode()) <= 63


def test_without_masks_settings_pass() -> None:
    client = {"client_encoding": "LATIN1", "search_path": ""}
    got = upstream_settings(client, "ana", masked=False)
    assert got == client | {"application_name": "ana", "standard_conforming_strings": "on"}
    assert "application_name" not in client


def test_literals_end_where_the_gateway_thinks_they_do() -> None:
    with pytest.raises(ClientFault):
        upstream_settings({"standard_conforming_strings": "off"}, "ana", masked=False)


def test_with_masks_they_are_pinned() -> None:
    assert upstream_settings({"timezone": "CET"}, "ana", masked=True) == {
        "timezone": "CET", "application_name": "ana", "client_encoding": "UTF8", "standard_conforming_strings": "on",
    }


@pytest.mark.parametrize("encoding", ["UTF8", "utf-8", "Unicode", "SQL_ASCII", ""])
def test_encodings_that_masks_take(encoding: str) -> None:
    assert upstream_settings({"client_encoding": encoding}, "a", masked=True)["client_encoding"] == "UTF8"


@pytest.mark.parametrize(("name", "value"), [
    ("client_encoding", "LATIN1"), ("client_encoding", "WIN1252"), ("standard_conforming_strings", "off"),
    ("standard_conforming_strings", "0"), ("standard_conforming_strings", ""), ("debug_print_plan", "on"),
    ("debug_print_parse", "t"), ("client_min_messages", "debug1"), ("client_min_messages", "LOG"),
])
def test_settings_that_masks_refuse(name: str, value: str) -> None:
    with pytest.raises(ClientFault) as caught:
        upstream_settings({name: value}, "a", masked=True)
    assert caught.value.sqlstate == "22023"


@pytest.mark.parametrize("encoding", ["SJIS", "sjis", "Big5", "GBK", "gb18030", "WIN936", "JOHAB", "shift_jis_2004"])
@pytest.mark.parametrize("masked", [True, False])
def test_encodings_that_hide_where_a_literal_ends(encoding: str, masked: bool) -> None:
    with pytest.raises(ClientFault) as caught:
        upstream_settings({"client_encoding": encoding}, "a", masked=masked)
    assert caught.value.sqlstate == "22023"


def test_the_servers_report_is_believed_over_our_request() -> None:
    fine = {"client_encoding": "UTF8", "standard_conforming_strings": "on"}
    assert check_reported(fine) == ""
    assert "LATIN1" in check_reported(fine | {"client_encoding": "LATIN1"})
    assert "off" in check_reported(fine | {"standard_conforming_strings": "off"})
    assert check_reported({}) != ""
