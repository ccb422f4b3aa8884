"""Which network addresses the server may call on behalf of others: public ones, and those that the operator names."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

IPv4or6 = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_LOCAL_NAT64 = ipaddress.IPv6Network("64:ff9b:1::/48")


class AddressRefused(ValueError):
    """An address that a stranger may not make this server call."""


def embedded_ipv4(address: IPv4or6) -> IPv4or6:
    """Return the IPv4 address that an IPv6 one wraps (mapped, 6to4, Teredo, NAT64), or the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64 or address in _LOCAL_NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None) or address


def is_reachable(text: str, allowed: Iterable[Network] = ()) -> bool:
    """Whether an IP address is public, or lies in one of the `allowed` networks."""
    address = ipaddress.ip_address(text.split("%", 1)[0])
    inner = embedded_ipv4(address)
    if any(candidate.version == network.version and candidate in network
           for network in allowed for candidate in (address, inner)):  # fmt: skip
        return True
    return all(
        candidate.is_global and not candidate.is_multicast and not candidate.is_reserved
        for candidate in (address, inner)
    )


def check_url(url: str, allowed: Iterable[Network] = ()) -> tuple[str, int]:
    """
    Return host and port of a URL that may be called.

    https alone, on any port, unless the host is an address in an `allowed` network: there plain http will do.

    :raises AddressRefused: another scheme, a user in it, no host, or a literal address that is not reachable.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise AddressRefused("This is not a URL: write https://host/path.") from None
    if parts.scheme not in ("https", "http") or not host:
        raise AddressRefused("A webhook goes to https://host/path.")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise AddressRefused("The URL must not carry a user, password or fragment; messages are signed instead.")
    literal = _literal(host)
    allowed = tuple(allowed)
    if literal is not None and not is_reachable(host, allowed):
        raise AddressRefused(f"{host} is not a public address.")
    in_allowed = literal is not None and not is_reachable(host)
    if parts.scheme == "http" and not in_allowed:
        raise AddressRefused("A webhook goes to an https:// address, so that nobody on the way can read it.")
    return host, port or (443 if parts.scheme == "https" else 80)


def _literal(host: str) -> IPv4or6 | None:
    try:
        return ipaddress.ip_address(host.split("%", 1)[0])
    except ValueError:
        return None
