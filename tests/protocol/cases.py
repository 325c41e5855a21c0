"""Protocol cases: what other proxies got wrong and what the specification allows, and which test stands for each.

A number is a case's name; scenarios of the dual runner carry theirs. Tests are `path::function` below tests/. A case
with no test has the reason beside it.
"""

from __future__ import annotations

from typing import NamedTuple


class Case(NamedTuple):
    """`absent`: why there is nothing to test."""

    what: str
    tests: tuple[str, ...] = ()
    absent: str = ""


NET, UPSTREAM, CASES_HERE = "net/test_startup.py::", "net/test_upstream.py::", "protocol/test_cases.py::"
STARTUP, FRONT, GATEWAY_START = "protocol/test_startup.py::", "worker/test_front.py::", "gateway/test_startup.py::"
RELAY, TLS, DRIVERS = "wire/test_relay.py::", "gateway/test_tls.py::", "gateway/test_drivers.py::"
MASKING, OPERATIONS = "gateway/test_masking.py::", "gateway/test_operations.py::"

CASES: dict[int, Case] = {
    # ---- startup and framing
    1: Case("startup packet one byte at a time, and cut at every boundary", (
        NET + "test_startup_in_three_deliveries", NET + "test_startup_cut_anywhere",
        GATEWAY_START + "test_login_in_pieces")),
    2: Case("startup packet up to the limit, and above", (NET + "test_large_packet_up_to_the_limit",)),
    3: Case("length 0, below 8, negative, 0x7fffffff: closed without allocating", (
        STARTUP + "test_lengths_that_cannot_be", GATEWAY_START + "test_malformed_startup")),
    4: Case("missing terminator, early double NUL, trailing bytes, key without value",
    (STARTUP + "test_layout_faults",)),
    5: Case("no user is an error, no database is the user's", (
        STARTUP + "test_user_is_needed", STARTUP + "test_database_defaults_to_user",
        FRONT + "test_database_defaults_to_user")),
    6: Case("database names of 64 B, 1 KB, 9 KB", (STARTUP + "test_long_database_names",)),
    7: Case("odd user names, safe in logs and audit", (
        STARTUP + "test_user_names_arrive_as_they_are", "test_logs.py::test_a_log_cannot_repaint_a_terminal")),
    8: Case("protocol 2.0 and majors that do not exist", (STARTUP + "test_other_majors",)),
    9: Case("minor versions are negotiated", (STARTUP + "test_minor_versions",
    GATEWAY_START + "test_newer_minor_is_negotiated")),
    10: Case("unknown _pq_ options are echoed, even at 3.0",
    (STARTUP + "test_protocol_options_are_echoed_even_at_3_0",)),
    11: Case("negotiation exactly once, before AuthenticationOk", (
        FRONT + "test_negotiation_comes_once_and_first_and_the_key_fits_the_protocol",)),
    12: Case("mixes of 3.0 and 3.2; a 3.0 client never gets a longer key", (
        UPSTREAM + "test_keys_have_the_servers_pid_and_fit_the_protocol",
        CASES_HERE + "test_keys_have_the_protocols_length_and_work")),
    13: Case("second startup packet, or password before startup", (
        CASES_HERE + "test_messages_before_the_startup_packet_are_no_session",)),
    14: Case("spellings of options", (STARTUP + "test_options",
    CASES_HERE + "test_startup_settings_arrive_as_they_are")),
    15: Case("search_path and role of a session never reach privileged look-ups", (MASKING + "test_attacks",)),
    16: Case("startup values with quotes, backslashes, or nothing",
    (CASES_HERE + "test_startup_settings_arrive_as_they_are",)),
    17: Case("client_encoding at startup and changed later", (
        FRONT + "test_masks_refuse_other_encodings_whoever_sets_them",
        RELAY + "test_settings_that_change_how_sql_reads_end_the_session")),
    18: Case("replication connections are refused", (STARTUP + "test_replication",)),
    19: Case("connect and close, connect and stay silent", (
        NET + "test_connect_and_close_or_stay_silent", GATEWAY_START + "test_silent_clients_are_let_go",
        FRONT + "test_clients_that_vanish_make_no_noise")),
    20: Case("message lengths that cannot be, in any state", (GATEWAY_START + "test_oversized_messages_after_login",)),
    # ---- TLS and GSS
    21: Case("bytes behind SSLRequest", (
        NET + "test_bytes_behind_an_encryption_request_are_fatal",
        TLS + "test_plain_bytes_behind_the_ssl_request_are_refused")),
    22: Case("bytes behind GSSENCRequest, and behind the server's 'S'", (
        NET + "test_bytes_behind_an_encryption_request_are_fatal",
        UPSTREAM + "test_bytes_behind_the_answer_to_an_ssl_request")),
    23: Case("orders of SSL and GSSENC requests, twice, inside TLS", (
        NET + "test_declined_encryption_goes_on_in_plaintext", NET + "test_the_same_request_twice",
        NET + "test_no_encryption_request_inside_tls")),
    24: Case("the server answers SSLRequest with 'E' or with its end", (
        UPSTREAM + "test_prefer_falls_back_and_require_does_not",)),
    25: Case("direct TLS needs ALPN", (
        NET + "test_tls_by_request_and_direct", NET + "test_direct_tls_needs_our_alpn",
        NET + "test_direct_tls_without_tls_is_closed")),
    26: Case("a handshake that stalls", ("net/test_channel.py::test_handshake_with_nonsense_and_a_stalled_one",)),
    27: Case("end without close_notify, fatal alerts", (
        "protocol/test_dual_tls.py::test_same_as_postgres_over_tls", TLS + "test_a_broken_handshake_harms_nobody",
        "protocol/test_dual_tls.py::test_an_alert_ends_both_sides")),
    28: Case("TLS records to the client of 8 KB at most", ("protocol/test_dual_tls.py::test_records_are_small",)),
    29: Case("KeyUpdate while a large result is written", (
        "protocol/test_dual_tls.py::test_key_updates_in_the_middle_of_a_result",)),
    30: Case("decrypted bytes that make no descriptor readable", (
        "protocol/test_dual_tls.py::test_many_messages_in_one_record",)),
    31: Case("writes retried after WANT_WRITE and WANT_READ", (
        "protocol/test_dual_tls.py::test_same_as_postgres_over_tls_in_pieces",)),
    32: Case("a new certificate is for new sessions only",
    absent="certificates are read at start; a change needs a restart"),
    33: Case("the host that is verified is the one that was asked for", (
        UPSTREAM + "test_tls_modes", UPSTREAM + "test_wrong_certificates",
        UPSTREAM + "test_the_next_address_is_tried")),
    # ---- authentication
    34: Case("passwords of any size, split anywhere", (
        CASES_HERE + "test_passwords_of_any_size_are_read_whole",
        CASES_HERE + "test_a_password_beyond_the_protocols_limit_is_refused_unread",
        FRONT + "test_password_messages_that_are_none", FRONT + "test_a_password_at_the_limit")),
    35: Case("SASLInitialResponse, malformed", absent="clients are asked for a cleartext password, never for SASL"),
    36: Case("SASL messages in pieces", (UPSTREAM + "test_login_stream_byte_by_byte_with_notices_between",)),
    37: Case("channel binding flags", (UPSTREAM + "test_channel_binding",
    "protocol/test_scram.py::test_first_message_and_flags")),
    38: Case("a SCRAM server with absurd nonce or iterations", (
        UPSTREAM + "test_scram_servers_that_misbehave", "protocol/test_scram.py::test_hostile_first_messages")),
    39: Case("errors and notices during the upstream login", (
        UPSTREAM + "test_refusals_and_nonsense", UPSTREAM + "test_login_stream_byte_by_byte_with_notices_between")),
    40: Case("the upstream login in pieces", (UPSTREAM + "test_login_stream_byte_by_byte_with_notices_between",)),
    41: Case("unknown user, wrong password, unknown database look alike", (
        FRONT + "test_unknown_and_forbidden_databases_get_the_same_answer",
        "control/test_gate.py::test_tokens_that_prove_nothing_get_the_same_words")),
    42: Case("expired and revoked credentials", (
        "identity/test_tokens.py::test_expired_says_when", "control/test_gate.py::test_revoked_and_expired_secrets")),
    43: Case("the server's own SQLSTATE reaches a proven client", (
        UPSTREAM + "test_the_servers_own_words_are_kept", GATEWAY_START + "test_upstream_refuses",
        CASES_HERE + "test_settings_that_the_server_refuses_are_its_own_error")),
    44: Case("a slow identity provider delays nobody else", (
        "control/test_keys.py::test_a_hanging_provider_costs_a_login_the_wait_and_no_more",)),
    45: Case("OAUTHBEARER", absent="clients are asked for a cleartext password, never for SASL"),
    46: Case("a bad upstream password is not tried in a loop", (CASES_HERE + "test_a_login_tries_the_upstream_once",)),
    47: Case("first logins of one identity do not race", (CASES_HERE + "test_first_logins_of_one_person_do_not_race",)),
    # ---- cancel
    48: Case("right process, wrong secret", (CASES_HERE + "test_keys_have_the_protocols_length_and_work",)),
    49: Case("cancel on another worker", (
        DRIVERS + "test_cancel_from_anywhere", FRONT + "test_keys_that_are_not_ours_travel_and_wrong_ones_do_nothing")),
    50: Case("a late cancel hits nothing", (DRIVERS + "test_a_late_cancel_hits_nothing",)),
    51: Case("cancel of an idle session", (CASES_HERE + "test_cancel_of_an_idle_session_hits_nothing",)),
    52: Case("many cancels at once", (UPSTREAM + "test_cancels_are_bounded",)),
    53: Case("cancel in plaintext and over TLS", (TLS + "test_cancel_over_tls",)),
    54: Case("CancelRequests of a wrong size; who closes first", (
        STARTUP + "test_cancel_of_a_wrong_size_is_not_answered", UPSTREAM + "test_cancel_waits_for_the_servers_close")),
    55: Case("a server without a key, and one with a long key", (
        UPSTREAM + "test_a_server_without_keys_gets_one_made_up", UPSTREAM + "test_no_cancel_key_and_a_long_one")),
    56: Case("cancel while the gateway itself asks the server", (RELAY + "test_cancel_only_while_something_runs",)),
    57: Case("cancel in COPY out and in a giant row", (
        CASES_HERE + "test_cancel_in_the_middle_of_a_result",
        CASES_HERE + "test_cancel_of_a_pipeline_cancels_what_runs")),
    # ---- queries
    58: Case("an exchange cut at every byte", (CASES_HERE + "test_an_exchange_cut_at_every_byte",)),
    59: Case("empty queries, comments, an error among several statements"),
    60: Case("sizes around every buffer's", (CASES_HERE + "test_sizes_about_those_of_buffers",)),
    61: Case("Flush without Sync delivers at once"),
    62: Case("Parse, Describe and Flush now, Bind and Execute later"),
    63: Case("an error skips to Sync, also what comes later"),
    64: Case("as many ReadyForQuery as Syncs"),
    65: Case("an extended error, then a simple query before the Sync"),
    66: Case("a simple query in the middle of a pipeline"),
    67: Case("lone Sync, lone Flush, Sync twice, Flush after Sync"),
    68: Case("500 statements, errors at 250 and with their own Syncs"),
    69: Case("Describe of statements and portals"),
    70: Case("unknown statements and portals: 26000, 34000, and the session lives"),
    71: Case("Close of what does not exist, and of a name that both kinds have"),
    72: Case("the unnamed statement is overwritten and dropped"),
    73: Case("taken names, and names that a failed Parse leaves free", (RELAY + "test_failed_parse_frees_the_name",)),
    74: Case("client gone between Parse and Sync"),
    75: Case("half a message is never executed", (RELAY + "test_half_sent_message_never_reaches_the_server",)),
    76: Case("parameters: 65535, NULL, formats"),
    77: Case("row limits, suspended portals"),
    78: Case("what ends portals, and what cursors survive"),
    79: Case("DISCARD and DEALLOCATE", (RELAY + "test_names_given_by_sql_lose_the_old_verdict",)),
    80: Case("PREPARE and EXECUTE of SQL are judged by their text"),
    81: Case("FunctionCall", (DRIVERS + "test_large_objects_use_function_calls",)),
    82: Case("cached plan must not change result type"),
    83: Case("a refusal in a pipeline is an error at its place"),
    84: Case("status of transactions"),
    85: Case("Terminate inside a transaction, and right behind a query"),
    86: Case("order of answers around big rows"),
    # ---- COPY
    87: Case("COPY in fails before CopyDone"),
    88: Case("Syncs within COPY", (
        RELAY + "test_copy_in_ignores_syncs_before_copy_done", RELAY + "test_syncs_about_a_failing_copy")),
    89: Case("CopyFail, Terminate, end and reset in COPY in"),
    90: Case("COPY out with a slow reader, and reset in the middle", (DRIVERS + "test_a_slow_reader_delays_nobody",)),
    91: Case("CopyBoth", absent="replication connections are refused (18)"),
    92: Case("COPY rows over messages, CSV, binary, end markers",
    ("wire/test_copymask.py::test_text_cut_anywhere_is_malformed",)),
    93: Case("several COPYs in one query"),
    # ---- asynchronous messages
    94: Case("ParameterStatus between any two messages"),
    95: Case("notifications: idle, busy, within COPY", (
        CASES_HERE + "test_notifications_from_elsewhere_arrive_in_idle_and_in_busy_sessions",
        DRIVERS + "test_notifications_reach_an_idle_session")),
    96: Case("notices, also many of them to a slow client"),
    97: Case("57P01 idle and busy: one error, then the end", (CASES_HERE + "test_a_backend_that_is_terminated",)),
    98: Case("the server dies in the middle of a row", (
        RELAY + "test_a_server_that_dies_in_a_row",
        RELAY + "test_lost_upstream_is_reported_and_the_outcome_is_unknown")),
    99: Case("the server's own timeouts are reported"),
    100: Case("notices are no errors"),
    # ---- size, speed, abuse
    101: Case("giant rows in bounded memory, also when the client resets", (
        CASES_HERE + "test_giant_messages_cost_no_memory_for_long",
        CASES_HERE + "test_resets_in_the_middle_of_a_giant_row_leak_nothing")),
    102: Case("buffers shrink after a giant message", (CASES_HERE + "test_giant_messages_cost_no_memory_for_long",)),
    103: Case("a client that never reads", (
        CASES_HERE + "test_a_client_that_never_reads_is_let_go_of_when_it_leaves",
        RELAY + "test_slow_reader_holds_up_nobody_but_itself")),
    104: Case("10 MB of pipeline both ways", (CASES_HERE + "test_a_pipeline_of_ten_megabytes",)),
    105: Case("half-closed clients get their answers", (
        RELAY + "test_half_closed_while_judged_still_gets_its_answer",
        RELAY + "test_half_closed_while_held_for_approval_withdraws")),
    106: Case("results about the sizes of buffers"),
    107: Case("no lost wake-up when a turn ends early", (CASES_HERE + "test_a_pipeline_of_ten_megabytes",)),
    108: Case("thousands of small spans in one write"),
    109: Case("fast queries beside a giant COPY", (CASES_HERE + "test_fast_queries_beside_a_giant_copy",)),
    110: Case("two results in one query, the second of 8153 bytes"),
    111: Case("storms of connections, no descriptors left", (
        "supervisor/test_listeners.py::test_out_of_descriptors_backs_off_and_comes_back",
        "supervisor/test_listeners.py::test_one_turn_accepts_a_bounded_number", DRIVERS + "test_many_sessions")),
    112: Case("storms of resets", (
        CASES_HERE + "test_a_storm_of_resets_leaves_nothing", OPERATIONS + "test_nothing_is_left_over")),
    113: Case("messages that are none", (
        RELAY + "test_malformed_client_bytes_end_only_that_session",
        RELAY + "test_malformed_bytes_behind_a_statement_wait_for_its_answer")),
    114: Case("idle timeouts", (RELAY + "test_idle_sessions_end_outside_of_transactions_only",)),
    115: Case("bytes read ahead at the hand-over", (
        UPSTREAM + "test_login_collects_everything_and_keeps_what_follows",
        FRONT + "test_what_was_read_ahead_goes_to_the_relay")),
    116: Case("names that do not resolve, addresses that do not answer", (
        UPSTREAM + "test_nobody_listens_and_no_such_name", UPSTREAM + "test_a_silent_server")),
    117: Case("graceful stop", ("gateway/test_crash.py::test_sigterm_drains",)),
    118: Case("a worker dies", (
        "gateway/test_crash.py::test_others_do_not_notice_a_dead_worker",
        "gateway/test_crash.py::test_a_crash_leaves_unknown_outcomes_not_holes")),
    119: Case("reload in the middle of sessions", (
        OPERATIONS + "test_policy_reload", FRONT + "test_sessions_follow_the_policy")),
    # ---- masking and audit
    120: Case("values in errors, notices, notifications", (
        MASKING + "test_errors_do_not_carry_values", MASKING + "test_errors_from_afar_do_not_carry_values")),
    121: Case("Execute without Describe, Bind again in binary", (
        RELAY + "test_execute_without_describe_gets_one_of_ours",
        RELAY + "test_described_statement_masks_in_the_formats_of_bind")),
    122: Case("RETURNING, cursors, rows in other values", (MASKING + "test_attacks",
    MASKING + "test_prepared_and_cursor")),
    123: Case("masked rows in pieces", (MASKING + "test_masks_in_odd_pieces",
    RELAY + "test_rows_are_masked_by_origin")),
    124: Case("a full journal", (
        OPERATIONS + "test_a_full_journal_pauses_and_then_goes_on",
        RELAY + "test_journal_without_room_stops_statements_and_goes_on")),
}
