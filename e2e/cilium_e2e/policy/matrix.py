"""Whole matrices, source × target × port, with the answers of the point query at a tiny part of its cost.

Every subject's policy comes down to one set of identities a port, kept as the bits of an integer; only the
finished sets are spread into arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from cilium_e2e.model import Decision, Direction, InputError
from cilium_e2e.policy.oracle import Oracle, Participant
from cilium_e2e.policy.portnames import PROTOCOLS
from cilium_e2e.policy.subject import DirectionPolicy

Codes: TypeAlias = NDArray[np.uint8]

NONE, ALLOWED, DENIED = 0, 1, 2
"""The codes in a matrix's arrays."""

_DECISIONS = (Decision.NONE, Decision.ALLOWED, Decision.DENIED)


@dataclass(frozen=True)
class PortQuery:
    """A column group of a matrix: ``TCP``, ``UDP``, ``SCTP``, ``ICMP`` or ``ICMPv6``, and a port or type."""

    protocol: str
    port: int

    @property
    def number(self) -> int:
        """The protocol's number."""
        try:
            return PROTOCOLS[self.protocol.upper()]
        except KeyError:
            raise InputError(
                f"expected one of {', '.join(PROTOCOLS)}, got {self.protocol!r}", place="matrix"
            ) from None


@dataclass(frozen=True)
class Matrix:
    """All decisions between two lists of participants.

    Attributes:
        sources, targets, ports: the axes.
        egress: codes of shape (sources, ports, targets).
        ingress: codes of shape (targets, ports, sources).
    """

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    ports: tuple[PortQuery, ...]
    egress: Codes
    ingress: Codes

    def decisions(self, source: int, target: int, port: int) -> tuple[Decision, Decision]:
        """Egress and ingress of one cell, by its positions on the axes."""
        return (
            _DECISIONS[self.egress[source, port, target]],
            _DECISIONS[self.ingress[target, port, source]],
        )

    def passes(self) -> NDArray[np.bool_]:
        """Which flows get through, of shape (sources, ports, targets)."""
        through: NDArray[np.bool_] = self.egress != DENIED
        for port in range(len(self.ports)):
            through[:, port, :] &= (self.ingress[:, port, :] != DENIED).T
        return through


def matrix(
    oracle: Oracle, sources: Sequence[str], targets: Sequence[str], ports: Sequence[PortQuery]
) -> Matrix:
    """Compute every cell.

    Args:
        oracle: world and policies.
        sources: pods (``namespace/name``) and peers.
        targets: likewise.
        ports: destination ports, for ICMP message types.

    Raises:
        InputError: an unknown name or protocol.
    """
    senders = [oracle.participant(key) for key in sources]
    receivers = [oracle.participant(key) for key in targets]
    wanted = [(query.number, query.port) for query in ports]
    return Matrix(
        sources=tuple(sources),
        targets=tuple(targets),
        ports=tuple(ports),
        egress=_half(oracle, Direction.EGRESS, senders, receivers, wanted),
        ingress=_half(oracle, Direction.INGRESS, receivers, senders, wanted),
    )


def _allowed(policy: DirectionPolicy, ports: Sequence[tuple[int, int]]) -> list[int]:
    """For each port, the identities that may talk to or be reached by the subject, as bits."""
    allowed, denied = [0] * len(ports), [0] * len(ports)
    for entry in policy.entries:
        chosen = denied if entry.deny else allowed
        for position, (protocol, port) in enumerate(ports):
            if entry.ports.covers(protocol, port):
                chosen[position] |= entry.peers
    return [yes & ~no for yes, no in zip(allowed, denied, strict=True)]


def _half(
    oracle: Oracle,
    direction: Direction,
    subjects: Sequence[Participant],
    remotes: Sequence[Participant],
    ports: Sequence[tuple[int, int]],
) -> Codes:
    """One direction's codes, of shape (subjects, ports, remotes)."""
    shape = (len(subjects), len(ports), len(remotes))
    codes: Codes = np.full(shape, ALLOWED, np.uint8)
    width = (len(oracle.index.identities) + 7) // 8
    packed: dict[int, bytes] = {}
    by_node: dict[str, list[tuple[int, bytes]]] = {}
    for position, subject in enumerate(subjects):
        policy = oracle.policy(subject, direction)
        if not subject.enforced:
            codes[position] = NONE
        elif policy.enforced:
            row = packed.get(id(policy))
            if row is None:
                row = b"".join(bits.to_bytes(width, "little") for bits in _allowed(policy, ports))
                packed[id(policy)] = row
            # Only nodes look different from near, so the node matters where the world has any.
            by_node.setdefault(subject.node, []).append((position, row))
    for node, rows in by_node.items():
        columns = np.array(
            [
                remote.local_identity if remote.node == node and node else remote.identity
                for remote in remotes
            ],
            np.intp,
        )
        _fill(codes, rows, columns, ports=len(ports), width=width)
    return codes


def _fill(
    codes: Codes, rows: Sequence[tuple[int, bytes]], columns: NDArray[np.intp], *, ports: int, width: int
) -> None:
    """Write the rows of subjects on one node."""
    positions = np.array([position for position, _ in rows], np.intp)
    bits = np.frombuffer(b"".join(row for _, row in rows), np.uint8).reshape(len(rows), ports, width)
    spread = np.unpackbits(bits, axis=2, bitorder="little")
    if columns.size and np.array_equal(columns, np.arange(columns.size)):
        chosen = spread[:, :, : columns.size]
    else:
        chosen = spread.take(columns, axis=2)
    codes[positions] = DENIED - chosen
