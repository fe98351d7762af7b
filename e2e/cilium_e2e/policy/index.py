"""Selecting identities in bulk: every requirement is answered as a set of bits, one bit an identity."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from cilium_e2e.policy.addresses import Network, covers, parse_label_text
from cilium_e2e.policy.labels import ANY, CIDR, LabelSet
from cilium_e2e.policy.objects_ports import FQDN
from cilium_e2e.policy.selectors import Operator, Requirement, Selector


class IdentityIndex:
    """An inverted index over label sets; sets of identities are integers, bit ``i`` for identity ``i``.

    It answers as :meth:`Selector.matches` does, for all identities at once.
    """

    def __init__(self, identities: Sequence[LabelSet]) -> None:
        self.identities = identities
        self.everyone = (1 << len(identities)) - 1
        self._by_key: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
        self._networks: dict[Network, int] = {}
        self._selected: dict[Selector, int] = {}
        self._required: dict[Requirement, int] = {}
        for number, labels in enumerate(identities):
            bit = 1 << number
            for key, label in labels.items():
                values = self._by_key[key]
                place = (label.source, label.value)
                values[place] = values.get(place, 0) | bit
            for network in labels.networks:
                self._networks[network] = self._networks.get(network, 0) | bit

    def select(self, selector: Selector) -> int:
        """The identities a selector selects."""
        found = self._selected.get(selector)
        if found is None:
            found = self._selected[selector] = self._select(selector)
        return found

    def named(self, name: FQDN) -> int:
        """The identities that carry the label of a DNS name or pattern."""
        key = name.match_name or name.match_pattern or ""
        return self._by_key.get(key, {}).get(("fqdn", ""), 0)

    def _select(self, selector: Selector) -> int:
        if not selector.usable:
            return 0
        bits = self.everyone
        for requirement in selector.requirements:
            bits &= self._requirement(requirement)
        return bits

    def _requirement(self, requirement: Requirement) -> int:
        bits = self._required.get(requirement)
        if bits is None:
            bits = self._required[requirement] = self._compute(requirement)
        return bits

    def _compute(self, requirement: Requirement) -> int:
        positive = requirement.operator in (Operator.EQUALS, Operator.IN, Operator.EXISTS)
        any_value = requirement.operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST)
        having = 0
        for value, bits in self._values(*requirement.parts):
            if any_value or value in requirement.values:
                having |= bits
        return having if positive else self.everyone & ~having

    def _values(self, source: str, key: str) -> list[tuple[str, int]]:
        """The values that identities have under a key, with those identities."""
        found = [
            (value, bits)
            for (label_source, value), bits in self._by_key.get(key, {}).items()
            if source in (ANY, label_source)
        ]
        if source == CIDR and (wanted := parse_label_text(key)) is not None:
            found.extend(("", bits) for network, bits in self._networks.items() if covers(wanted, network))
        return found


def numbers(bits: int) -> list[int]:
    """The positions of the set bits, ascending."""
    found = []
    while bits:
        lowest = bits & -bits
        found.append(lowest.bit_length() - 1)
        bits ^= lowest
    return found
