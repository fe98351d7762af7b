"""CoreDNS' configuration, the Corefile, as far as a zone of ours is added to it."""

from __future__ import annotations

import re

from cilium_e2e.model import ClusterStateError

_BEGIN, _END = "# cilium-e2e: begin", "# cilium-e2e: end"
# No cache: what a test sees is what the server says now. Whether the server is well is the tests' own matter.
_BLOCK = """\
{zone}:53 {{
    errors
    forward . {address} {{
        prefer_udp
        max_fails 0
    }}
}}
"""
_OURS = re.compile(rf"^{_BEGIN}$.*?^{_END}\n", re.MULTILINE | re.DOTALL)


def with_zone(corefile: str, zone: str, address: str) -> str:
    """The Corefile with a server block of ours that forwards a zone; one of ours from before is replaced.

    Everything else stays as it is, byte by byte, apart from a newline added to a last line that has none.

    Args:
        corefile: as it is now.
        zone: the domain, without root dot.
        address: the name server's, which answers on port 53, UDP.

    Raises:
        ClusterStateError: another server block serves the zone already.
    """
    rest = _OURS.sub("", corefile)
    for name in served(rest):
        if name == zone:
            raise ClusterStateError(
                f"a server block for {zone} is there already, and it is not one of ours",
                place="Corefile of the cluster's DNS",
                hint="Remove it, or use a cluster that has none: tests need this zone.",
            )
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return f"{rest}{_BEGIN}\n{_BLOCK.format(zone=zone, address=address)}{_END}\n"


def served(corefile: str) -> list[str]:
    """The zones of the server blocks, in order, without scheme, port and root dot.

    Minimal: braces stand as words of their own, as CoreDNS itself wants them at the end of a line.
    """
    zones: list[str] = []
    heads: list[str] = []
    depth = 0
    for line in corefile.splitlines():
        for word in line.split():
            if word.startswith("#"):
                break
            if word == "{":
                if depth == 0:
                    zones += [_zone(head) for part in heads for head in part.split(",") if head]
                    heads = []
                depth += 1
            elif word == "}":
                depth = max(0, depth - 1)
            elif depth == 0:
                heads.append(word)
    return zones


def _zone(head: str) -> str:
    name = head.rpartition("://")[2]
    name = re.sub(r":\d+$", "", name)
    return name.lower().rstrip(".") or "."
