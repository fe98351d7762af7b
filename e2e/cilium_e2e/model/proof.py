"""Proof that policies are enforced: what was awaited, for whom, and how long it took."""

from __future__ import annotations

from dataclasses import dataclass

from cilium_e2e.model.verdict import PolicyRef


@dataclass(frozen=True, slots=True)
class EndpointProof:
    """One endpoint's part of a proof.

    Attributes:
        endpoint: ``namespace/pod``.
        node: where it runs.
        revision: the policy revision its datapath had realized.
        listed: UIDs of the policies of the proof that the realized revision lists for it.
    """

    endpoint: str
    node: str
    revision: int
    listed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Proof:
    """Policies shown to be enforced (or, ``gone``, shown to be no longer enforced).

    Attributes:
        policies: the objects, with their UIDs.
        gone: whether their absence was proven.
        endpoints: every endpoint that was waited for.
        realized_s: from the request to the last endpoint's realization, in seconds.
        detail: further facts checked (ipcache, service backends), one line each.
        absent: policies that those took the place of, shown to be no longer enforced.
    """

    policies: tuple[PolicyRef, ...]
    gone: bool
    endpoints: tuple[EndpointProof, ...]
    realized_s: float
    detail: tuple[str, ...] = ()
    absent: tuple[PolicyRef, ...] = ()

    def __str__(self) -> str:
        what = ", ".join(map(str, self.policies)) or "no policy"
        state = "no longer enforced" if self.gone else "enforced"
        if self.absent:
            state += f", in place of {', '.join(map(str, self.absent))},"
        return f"{what}: {state} at {len(self.endpoints)} endpoints after {self.realized_s:.2f} s"
