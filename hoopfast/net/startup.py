"""A client's way from the first byte to its StartupMessage or CancelRequest: TLS and GSS requests, direct TLS.

Called by the front for each accepted client. Reads never go past the packet in hand, so whatever stands behind an
encryption request is noticed and refused (CVE-2021-23214) instead of being executed as if it had been encrypted.
"""

from __future__ import annotations

from hoopfast._wire import TlsContext
from hoopfast.errors import ClientFault
from hoopfast.net.channel import Channel
from hoopfast.protocol import sqlstate, startup

ALPN = b"postgresql"
# SSLRequest and GSSENCRequest once each, then the packet itself: anything longer goes in circles.
PACKETS_MAX = 3


async def receive_startup(channel: Channel, tls: TlsContext | None) -> startup.StartupRequest | startup.CancelRequest:
    """The client's request, with TLS switched on if it asked for it and `tls` is there.

    Raises ClientFault (to be answered), startup.Unanswered (close only), and what a Channel raises.
    """
    first = await channel.peek()
    if not first:
        raise startup.Unanswered("closed without a word")
    if first[0] == startup.TLS_RECORD_FIRST_BYTE:
        await _direct_tls(channel, tls)
    ssl_done = gss_done = channel.tls is not None
    for _ in range(PACKETS_MAX):
        packet = startup.parse_packet(await channel.read_exactly(startup.packet_length(await channel.read_exactly(4))))
        if isinstance(packet, startup.CancelRequest | startup.StartupRequest):
            return packet
        if isinstance(packet, startup.SslRequest):
            if ssl_done:
                break
            ssl_done = True
            await _refuse_smuggled(channel, "SSL")
            if tls is None:
                await channel.write(b"N")
                continue
            await channel.write(b"S")
            await channel.start_tls(tls)
            gss_done = True
        else:
            if gss_done:
                break
            await _refuse_smuggled(channel, "GSSAPI encryption")
            gss_done = True
            await channel.write(b"N")
    raise ClientFault(sqlstate.PROTOCOL_VIOLATION, "encryption was requested more than once")


async def _direct_tls(channel: Channel, tls: TlsContext | None) -> None:
    if tls is None:
        raise startup.Unanswered("direct TLS where TLS is not configured")
    await channel.start_tls(tls)
    if channel.tls is None or channel.tls.alpn() != ALPN:
        # Without ALPN another protocol's bytes could be replayed at this port (ALPACA), so PostgreSQL demands it.
        raise ClientFault(
            sqlstate.PROTOCOL_VIOLATION, "received direct SSL connection request without ALPN protocol negotiation",
            hint="Use a client with libpq 17 or later, or leave sslnegotiation=direct out.",
        )


async def _refuse_smuggled(channel: Channel, request: str) -> None:
    if await channel.has_more():
        raise startup.smuggled(request)
