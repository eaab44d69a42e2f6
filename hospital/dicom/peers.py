"""The DICOM systems that the gateway knows, and whether one may open an association.

An AE title is a name that anybody can give: it counts together with the address that a connection comes from and,
where the peer has one, with its certificate. Source: PS3.8 9.3.4 (reasons of a rejection), PS3.15 B.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

_LONGEST_TITLE, _MOST_TITLES = 16, 20
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class DicomPeer:
    """A system that sends to the gateway, is queried by it, or is sent to.

    Attributes
    ----------
    name : str
        In the configuration; stands in rows and logs.
    ae_title : str
        What it calls itself, and is called.
    host, port
        Where its own AE listens; None for one that only sends.
    networks : tuple of networks
        Where its connections come from; empty: from `host` alone.
    fingerprint : str, optional
        SHA-256, in lower-case hex, of the certificate (DER) that it must show.
    tls : bool
        Whether connections to it are made by TLS.
    patient_issuer, accession_issuer : str, optional
        Who issued identifiers that arrive from it without an issuer.
    """

    name: str
    ae_title: str
    host: str | None = None
    port: int | None = None
    networks: tuple[Network, ...] = ()
    fingerprint: str | None = None
    tls: bool = False
    patient_issuer: str | None = None
    accession_issuer: str | None = None

    def calls_from(self, address: str) -> bool:
        """Whether a connection from `address`, an IP address, may be this peer's."""
        caller = plain_address(address)
        return any(caller in network for network in self.networks or _host_network(self.host))


class Refusal(Enum):
    """Why an association is rejected: result, source and reason of A-ASSOCIATE-RJ."""

    CALLED = (1, 1, 7)
    """It calls another AE title than ours."""
    CALLING = (1, 1, 3)
    """No peer of this title calls from there, with this certificate."""
    FULL = (2, 3, 2)
    """The store takes nothing now, or there are as many associations as may be; try again later."""


@dataclass(frozen=True, slots=True)
class Caller:
    """What is known of the other side of an association that is asked for."""

    called: str
    calling: str
    address: str
    fingerprint: str | None = None


def admitted(peers: Sequence[DicomPeer], caller: Caller, ae_title: str) -> DicomPeer | Refusal:
    """The peer that `caller` is, or why it is none; `ae_title` is the gateway's."""
    if caller.called != ae_title:
        return Refusal.CALLED
    for peer in peers:
        shown = peer.fingerprint is None or peer.fingerprint == caller.fingerprint
        if peer.ae_title == caller.calling and shown and peer.calls_from(caller.address):
            return peer
    return Refusal.CALLING


def refusal_reason(peers: Sequence[DicomPeer], caller: Caller, ae_title: str, refusal: Refusal) -> str | None:
    """What to look at where `caller` was refused, for a log: titles and addresses of systems, nothing of a patient."""
    calling = f"{_shown(caller.calling)} at {caller.address}"
    if refusal is Refusal.CALLED:
        return f"{calling} called {_shown(caller.called)}, this gateway is {ae_title}"
    if refusal is not Refusal.CALLING:
        return None
    named = [peer for peer in peers if peer.ae_title == caller.calling]
    if any(peer.calls_from(caller.address) for peer in named):
        return f"{calling} showed no certificate of the peer {named[0].name}"
    titles = [peer.ae_title for peer in peers]
    more = f" and {len(titles) - _MOST_TITLES} more" if len(titles) > _MOST_TITLES else ""
    rule = "calls from another address than its own" if named else "is no peer"
    return f"{calling} {rule}; the peers' titles: {', '.join(titles[:_MOST_TITLES])}{more}"


def _shown(ae_title: str) -> str:
    """An AE title as it was sent, of printable characters alone and no longer than one can be."""
    return repr("".join(one if " " <= one <= "~" else "?" for one in ae_title[:_LONGEST_TITLE]))


def plain_address(address: str) -> IPv4Address | IPv6Address:
    """An address as a socket gives it; an IPv4 address that an IPv6 socket shows is one of IPv4."""
    parsed = ip_address(address.partition("%")[0])
    return (parsed.ipv4_mapped or parsed) if isinstance(parsed, IPv6Address) else parsed


def _host_network(host: str | None) -> tuple[Network, ...]:
    """The address that `host` is; a name is none: whoever answers for names must not decide who is let in."""
    try:
        return () if host is None else (ip_network(host),)
    except ValueError:
        return ()
