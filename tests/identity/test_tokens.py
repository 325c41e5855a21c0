"""Every rule of accepting a token, each attacked with a token that breaks only that rule."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hoopfast import limits
from hoopfast.config import Issuer
from hoopfast.errors import AuthenticationFailed
from hoopfast.identity import tokens
from tests.identity.minting import (
    AUDIENCE,
    HEADER,
    ISSUER,
    NOW,
    claims,
    ec_key,
    ed_key,
    encode,
    issuer,
    jwk,
    mint,
    public,
    rsa_key,
    sign,
)


def check(token: bytes, by: Issuer | None = None, key: jwt.PyJWK | None = None, now: float = NOW) -> dict[str, Any]:
    return tokens.verify(tokens.precheck(token), by or issuer(), key or public(), now)


def refusal(
    token: bytes, by: Issuer | None = None, key: jwt.PyJWK | None = None, now: float = NOW
) -> AuthenticationFailed:
    with pytest.raises(AuthenticationFailed) as caught:
        check(token, by, key, now)
    failure = caught.value
    assert failure.reason in tokens.REASONS
    assert failure.sqlstate == "28P01"
    assert failure.hint
    for segment in token.split(b"."):
        assert len(segment) < 8 or segment.decode("latin-1") not in failure.message + failure.hint
    return failure


def reason(*args: Any, **options: Any) -> str:
    return refusal(*args, **options).reason


# ---------------------------------------------------------------- good ones

def test_good_token_gives_its_claims() -> None:
    assert check(mint()) == claims()


@pytest.mark.parametrize(("key", "algorithm"), [(ec_key(), "ES256"), (ed_key(), "EdDSA")])
def test_other_key_types(key: Any, algorithm: str) -> None:
    assert check(mint(key, algorithm), key=public(key))["sub"] == "u1"


@pytest.mark.parametrize("typ", ["JWT", "jwt", "at+jwt", "application/at+jwt"])
def test_types_of_logins(typ: str) -> None:
    assert check(mint(header={"typ": typ}))


def test_type_may_be_absent() -> None:
    assert check(sign({"alg": "RS256", "kid": "k1"}, claims()))


def test_four_hundred_groups_are_fine() -> None:
    token = mint(groups=[f"department-{n:04d}-team" for n in range(400)])
    assert 10_000 < len(token) < limits.CREDENTIAL_MAX_BYTES
    assert len(check(token)["groups"]) == 400


def test_opt_in_algorithm_needs_both_setting_and_key() -> None:
    token = mint(algorithm="RS512")
    assert reason(token, key=public(alg="RS512")) == "algorithm"
    assert reason(token, issuer(algorithms=("RS512",))) == "algorithm", "a key without alg is an RS256 key"
    assert check(token, issuer(algorithms=("RS512",)), public(alg="RS512"))


# ---------------------------------------------------------------- signature and algorithm

def test_unsigned() -> None:
    for algorithm in ("none", "None", "NONE"):
        token = encode({"alg": algorithm, "kid": "k1"}) + b"." + encode(claims()) + b"."
        assert reason(token) == "unsigned"
    assert reason(mint().rpartition(b".")[0] + b".") == "unsigned"
    # "none" with something in the place of the signature is no better.
    assert reason(encode({"alg": "none", "kid": "k1"}) + b"." + encode(claims()) + b".AAAA") == "unsigned"


@pytest.mark.parametrize("form", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_key_confusion(form: serialization.Encoding) -> None:
    """HS256 with the provider's public key as the secret."""
    secret = rsa_key().public_key().public_bytes(form, serialization.PublicFormat.SubjectPublicKeyInfo)
    signed = encode({"alg": "HS256", "kid": "k1"}) + b"." + encode(claims())
    token = signed + b"." + encode(hmac.new(secret, signed, hashlib.sha256).digest())
    assert reason(token) == "algorithm"
    # Not even when the configuration was talked into it.
    assert reason(token, issuer(algorithms=("HS256", "RS256"))) == "algorithm"


def test_symmetric_key_of_a_key_set_is_never_used() -> None:
    oct_key = jwt.PyJWK({"kty": "oct", "kid": "k1", "k": encode(b"x" * 32).decode()})
    token = jwt.encode(claims(), b"x" * 32, algorithm="HS256", headers={"kid": "k1"}).encode()
    assert reason(token, issuer(algorithms=("HS256",)), oct_key) == "algorithm"
    assert reason(mint(), key=oct_key) == "algorithm"


def test_signature_of_a_stranger() -> None:
    assert reason(mint(rsa_key("stranger"))) == "signature"


def test_changed_claims() -> None:
    head, _, signature = mint().split(b".")
    assert reason(head + b"." + encode(claims(groups=["dba"])) + b"." + signature) == "signature"


def test_algorithm_must_be_the_keys() -> None:
    assert reason(mint(ec_key(), "ES256")) == "algorithm"
    assert reason(mint(), key=public(alg="RS512")) == "algorithm"
    assert reason(mint(), issuer(algorithms=("ES256",))) == "algorithm"
    # A P-384 key dressed up as the one for ES256.
    assert reason(mint(ec_key(), "ES256"), key=public(ec_key(ec.SECP384R1))) == "algorithm"


@pytest.mark.parametrize("algorithm", [None, 5, ["RS256"], "", "rs256", "RSA-OAEP", "ES256K"])
def test_strange_algorithms(algorithm: Any) -> None:
    assert reason(sign({**HEADER, "alg": algorithm}, claims())) == "algorithm"


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_short_rsa_key() -> None:
    weak = rsa_key("weak", 1024)
    assert reason(mint(weak), key=public(weak)) == "unknown_key"


def test_key_for_encryption() -> None:
    assert reason(mint(), key=public(use="enc")) == "unknown_key"


# ---------------------------------------------------------------- header

def test_keys_in_the_header_are_ignored() -> None:
    stranger = rsa_key("stranger")
    for header in ({"jwk": jwk(stranger)}, {"jku": "https://evil.example.com/jwks"}, {"x5u": "https://evil.example.com/c"},
                   {"x5c": ["MIIB"]}):
        assert reason(mint(stranger, header=header)) == "signature"
        assert check(mint(header=header)), "an honest token may carry them"


@pytest.mark.parametrize("kid", [None, 7, ["k1"], {"k": 1}, "", "k" * 257])
def test_strange_key_ids(kid: Any) -> None:
    header = {**HEADER, "kid": kid} if kid is not None else {"alg": "RS256"}
    assert reason(sign(header, claims())) == "unknown_key"


def test_key_id_must_be_that_of_the_key() -> None:
    assert reason(mint(header={"kid": "k2"})) == "unknown_key"


@pytest.mark.parametrize("name", ["crit", "b64", "zip", "enc"])
def test_header_extensions(name: str) -> None:
    assert reason(sign({**HEADER, name: ["exp"]}, claims())) == "malformed"


@pytest.mark.parametrize("typ", ["logout+jwt", "dpop+jwt", "secevent+jwt", "", None, 5, ["JWT"]])
def test_other_types_are_no_logins(typ: Any) -> None:
    assert reason(sign({**HEADER, "typ": typ}, claims())) == "type"


# ---------------------------------------------------------------- shape

def test_too_large() -> None:
    token = mint(padding="x" * 33_000)
    assert reason(token) == "too_large"


@pytest.mark.parametrize("length", [4095, 1023])
def test_cut_by_the_terminal(length: int) -> None:
    token = mint(padding="x" * 5000)[:length]
    failure = refusal(token)
    assert failure.reason == "truncated_by_terminal"
    assert str(length) in failure.message


def of_length(length: int) -> bytes:
    """A good token of exactly that many bytes; base64 skips lengths, so header and payload are both padded."""
    for extra in range(3):
        shortest = len(mint(header={"pad": "x" * extra}, padding=""))
        for padding in range((length - shortest) * 3 // 4 - 4, (length - shortest) * 3 // 4 + 5):
            token = mint(header={"pad": "x" * extra}, padding="x" * padding)
            if len(token) == length:
                return token
    raise AssertionError("no padding gives this length")


def test_a_whole_token_of_that_length_is_fine() -> None:
    assert check(of_length(1023))


def test_cut_in_the_signature() -> None:
    assert reason(of_length(4095 + 8)[:4095]) == "truncated_by_terminal"
    assert reason(of_length(4095 + 8)[:4093]) in {"signature", "malformed"}


GOOD = mint()


@pytest.mark.parametrize("token", [
    b"", b".", b"..", b"...", b"eyJ", b"eyJhbGciOiJSUzI1NiJ9", GOOD + b".x", GOOD + b".x.y", GOOD + b"\n", b" " + GOOD,
    GOOD.replace(b".", b"=.", 1), GOOD[:40] + b"!" + GOOD[41:], GOOD[:40] + b"\xff" + GOOD[41:], b"\x00" + GOOD,
    encode(b"[]") + b"." + encode(claims()) + b".AAAA", encode(HEADER) + b"." + encode(b"[1]") + b".AAAA",
    encode(HEADER) + b"." + encode(b"") + b".AAAA", encode(HEADER) + b"." + encode(b"{") + b".AAAA",
    encode(HEADER) + b"." + encode(b'{"a":' * 3800 + b"1" + b"}" * 3800) + b".AAAA",
    encode(HEADER) + b"." + encode(b"[" * 20_000) + b".AAAA",
    encode(HEADER) + b"." + encode(b'{"exp":' + b"9" * 5000 + b"}") + b".AAAA",
], ids=lambda t: repr(t[:12]))  # fmt: skip
def test_garbage(token: bytes) -> None:
    assert reason(token) in {"malformed", "unsigned"}


def test_every_cut_of_a_token_is_refused() -> None:
    token = mint()
    for length in range(len(token)):
        assert reason(token[:length]) in {"malformed", "unsigned", "signature", "algorithm"}, length


def test_every_changed_byte_is_refused() -> None:
    token = mint()
    for place in range(0, len(token), 7):
        other = b"A" if token[place : place + 1] != b"A" else b"B"
        refusal(token[:place] + other + token[place + 1 :])


@pytest.mark.parametrize("payload", [
    json.dumps(claims())[:-1] + ',"sub":"admin"}',
    json.dumps(claims())[:-1] + ',"realm":{"a":1,"a":2}}',
    json.dumps(claims())[:-1] + ',"x":NaN}',
    json.dumps(claims())[:-1] + ',"x":-Infinity}',
    json.dumps(claims())[:-1] + ',"name":"\\ud800"}',
    json.dumps(claims())[:-1] + ',"\\udfff":1}',
    json.dumps(claims())[:-1] + ',"deep":[{"er":["\\ud800x"]}]}',
    "\ufeff" + json.dumps(claims()),
])  # fmt: skip
def test_json_with_two_readings(payload: str) -> None:
    assert reason(sign(HEADER, payload.encode())) == "malformed"


def test_other_encodings_of_json() -> None:
    assert reason(sign(HEADER, json.dumps(claims()).encode("utf-16"))) == "malformed"
    assert reason(sign(HEADER, json.dumps(claims()).encode()[:-1] + b',"n":"\xff"}')) == "malformed"


def test_duplicate_header_names() -> None:
    assert reason(sign(b'{"alg":"RS256","kid":"k1","kid":"k1"}', claims())) == "malformed"


def test_whole_characters_by_escape_are_fine() -> None:
    payload = json.dumps(claims())[:-1] + ',"name":"\\ud83d\\ude00"}'
    assert check(sign(HEADER, payload.encode()))["name"] == "\U0001f600"


# ---------------------------------------------------------------- issuer and audience

@pytest.mark.parametrize("iss", ["https://evil.example.com", ISSUER + "/", ISSUER.upper(), "", ISSUER[:-1]])
def test_wrong_issuer(iss: str) -> None:
    assert reason(mint(iss=iss)) == "wrong_issuer"


@pytest.mark.parametrize("iss", [5, [ISSUER], {"a": ISSUER}])
def test_issuer_of_a_wrong_type(iss: Any) -> None:
    assert reason(sign(HEADER, {**claims(), "iss": iss})) == "wrong_issuer"


def test_wrong_audience_says_which_is_right() -> None:
    failure = refusal(mint(aud="other-app"))
    assert failure.reason == "wrong_audience"
    assert f'"{AUDIENCE}"' in failure.hint
    assert reason(mint(aud=["x", "hoopfast2"])) == "wrong_audience"
    assert reason(mint(aud=AUDIENCE + " ")) == "wrong_audience"


@pytest.mark.parametrize("aud", [5, {AUDIENCE: 1}, [AUDIENCE, 5], [[AUDIENCE]]])
def test_audience_of_a_wrong_type(aud: Any) -> None:
    assert reason(sign(HEADER, {**claims(), "aud": aud})) == "wrong_audience"


@pytest.mark.parametrize("aud", [[], ""])
def test_no_audience(aud: Any) -> None:
    assert reason(sign(HEADER, {**claims(), "aud": aud})) == "claims"


def test_several_audiences_need_a_party() -> None:
    both = [AUDIENCE, "other"]
    assert reason(mint(aud=both)) == "wrong_audience"
    assert reason(mint(aud=both, azp="other")) == "wrong_audience"
    assert check(mint(aud=both, azp=AUDIENCE))
    assert check(mint(aud=both, azp="cli"), issuer(client_id="cli"))
    assert reason(mint(aud=both, azp="cli", client_id="evil"), issuer(client_id="cli")) == "wrong_audience"


def test_authorized_parties() -> None:
    by = issuer(authorized_parties=("cli", "console"))
    assert check(mint(azp="console"), by)
    assert check(mint(client_id="cli"), by)
    assert check(mint(cid="cli"), by)
    assert reason(mint(azp="evil"), by) == "wrong_audience"
    assert reason(mint(azp="cli", client_id="evil"), by) == "wrong_audience"
    assert reason(mint(cid="evil"), by) == "wrong_audience"
    assert reason(mint(azp=["cli"]), by) == "wrong_audience"
    assert reason(mint(), by) == "wrong_audience", "nobody said who asked for it"


def test_party_without_a_list() -> None:
    assert check(mint(azp="whoever")), "an audience of our own is enough"
    assert reason(mint(azp="whoever"), issuer(client_id="cli")) == "wrong_audience"
    assert check(mint(), issuer(client_id="cli"))


def test_microsoft_tenant() -> None:
    ours = "https://login.microsoftonline.com/1111-2222/v2.0"
    by = issuer(issuer=ours)
    assert check(mint(iss=ours, tid="1111-2222"), by)
    assert reason(mint(iss=ours, tid="3333-4444"), by) == "wrong_issuer"
    assert reason(mint(iss=ours), by) == "wrong_issuer"
    assert reason(mint(iss=ours, tid="v2.0"), by) == "wrong_issuer"


@pytest.mark.parametrize("graph", ["https://graph.microsoft.com", "https://graph.microsoft.com/",
                                   "00000003-0000-0000-c000-000000000000"])
def test_tokens_for_graph_are_not_for_us(graph: str) -> None:
    assert reason(mint(aud=[AUDIENCE, graph], azp=AUDIENCE)) == "wrong_audience"
    assert reason(mint(aud=graph), issuer(audience=graph)) == "wrong_audience"


# ---------------------------------------------------------------- times

def test_expired_says_when() -> None:
    failure = refusal(mint(), now=NOW + 3540 + 31)
    assert failure.reason == "expired"
    assert re.search(r"expired at \d\d:\d\d UTC on 2027-01-15", failure.message)


def test_leeway_both_ways() -> None:
    assert check(mint(), now=NOW + 3540 + 29)
    assert check(mint(iat=NOW + 29, nbf=NOW + 29))
    assert reason(mint(iat=NOW + 31)) == "not_yet_valid"
    assert reason(mint(nbf=NOW + 31)) == "not_yet_valid"


def test_a_forged_expired_token_learns_nothing() -> None:
    failure = refusal(mint(rsa_key("stranger")), now=NOW + 100_000)
    assert failure.reason == "signature"
    assert "expired" not in failure.message + failure.hint


def test_the_given_clock_counts_and_no_other() -> None:
    assert check(mint(iat=1000, exp=2000), now=1500.0)
    assert reason(mint(iat=1000, exp=2000), now=2500.0) == "expired"
    assert check(mint(iat=90_000_000_000, exp=90_000_000_100), now=90_000_000_050.0)


def test_lifetime_of_a_day_at_most() -> None:
    day = 86_400
    assert check(mint(iat=NOW, exp=NOW + day))
    assert reason(mint(iat=NOW, exp=NOW + day + 1)) == "claims"
    assert reason(mint(exp=253_402_300_799)) == "claims"
    assert reason(mint(iat=NOW - day - 10, exp=NOW - 10)) == "expired"


@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("value", ["1800003540", True, [1], {}, 1e30, -1e30])
def test_times_that_are_none(name: str, value: Any) -> None:
    assert reason(mint(**{name: value})) == "claims"


def test_infinite_time() -> None:
    payload = json.dumps(claims(exp=12345)).replace("12345", "1e999")
    assert reason(sign(HEADER, payload.encode())) == "claims"


# ---------------------------------------------------------------- other claims

@pytest.mark.parametrize("name", ["sub", "aud", "exp", "iat"])
def test_required_claims(name: str) -> None:
    failure = refusal(mint(**{name: None}))
    assert failure.reason == "claims"
    assert f'"{name}"' in failure.message


@pytest.mark.parametrize("sub", ["", "x" * 256, "a\nb", "a\x00b", "a\x1b[31m", "a\u200bb", "a\u202eb", 5, ["u1"]])
def test_subject(sub: Any) -> None:
    assert reason(sign(HEADER, {**claims(), "sub": sub})) == "claims"


def test_subject_may_be_long_and_foreign() -> None:
    assert check(mint(sub="ü" * 255))
    assert check(mint(sub="system:serviceaccount:ns:name"))


def test_token_id_of_a_wrong_type() -> None:
    assert reason(sign(HEADER, {**claims(), "jti": 5})) == "claims"


def test_bound_token() -> None:
    assert reason(mint(cnf={"jkt": "x"})) == "bound_token"
    assert reason(sign(HEADER, {**claims(), "cnf": None})) == "bound_token"


def test_which_kind_an_issuer_gives() -> None:
    ids, access = issuer(accept="id_token"), issuer(accept="access_token")
    assert reason(mint(header={"typ": "at+jwt"}), ids) == "type"
    assert reason(mint(scope="openid"), ids) == "type"
    assert reason(mint(scp=["openid"]), ids) == "type"
    assert check(mint(nonce="n", at_hash="h"), ids)
    assert reason(mint(at_hash="h"), access) == "type"
    assert reason(mint(typ="ID"), access) == "type"
    assert check(mint(scope="openid"), access)
    assert check(mint(header={"typ": "at+jwt"}), access)


def test_a_token_of_one_issuer_is_nothing_to_another() -> None:
    other = issuer(name="other", issuer="https://other.example.com")
    assert reason(mint(), other) == "wrong_issuer"
