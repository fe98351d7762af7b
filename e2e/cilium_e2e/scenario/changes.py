"""What a scenario's steps do to the cluster, and how it is undone and shown to be undone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from cilium_e2e.model import ClusterStateError, PolicyError, PolicyRef, Proof, Ref, WaitTimeout
from cilium_e2e.scenario.lab import InForce, Lab
from cilium_e2e.scenario.model import PolicyDecl, Step, name_of
from cilium_e2e.scenario.policies import enforce_all
from cilium_e2e.scenario.schema import POLICY_KINDS
from cilium_e2e.scenario.stage import Stage
from cilium_e2e.scenario.workload import remove

IDENTITY_TIMEOUT_S = 30.0
_POLL_S = 0.1


class Changes:
    """The state of one scenario's cluster objects, step by step.

    Args:
        lab: where it is done; it learns what is in force, and every proof.
        stage: whose objects.
    """

    def __init__(self, lab: Lab, stage: Stage) -> None:
        self._lab = lab
        self._stage = stage
        self._live: dict[str, Ref] = {}
        self._refs: dict[str, PolicyRef] = {}
        self._proofs: dict[PolicyRef, Proof] = {}
        self._pod_labels: dict[str, Mapping[str, str]] = {}
        self._space_labels: dict[str, Mapping[str, str]] = {}
        self._ever: set[str] = set()
        self.changed_s = stage.cluster.clock.monotonic()
        """When something was changed last, by the cluster's clock; what is seen later is as it was left."""

    def policy(self, name: str) -> PolicyRef | None:
        """The policy in force that is written ``name`` or ``namespace/name``; None where there is none."""
        found = [ref for key, ref in self._refs.items() if name in (key, key.rpartition("/")[2])]
        return found[0] if len(found) == 1 else None

    def make(self, step: Step) -> None:
        """Do what a step says, and prove it: policies enforced or gone, identities known to the agents.

        Policies that take the place of others are applied before those are deleted, as Flux does it.

        Raises:
            PolicyError: a policy is refused.
            EnforcementNotProven, WaitTimeout: it did not come to be so in time.
        """
        replaced = self._replaced(step)
        if not replaced:
            self._delete(step.delete)
        self._relabel(step.relabel, step.relabel_namespace)
        for key in step.restart:
            labels = self._pod_labels.get(key, self._stage.pods[key].labels)
            self._stage.restart(key, labels)
        self.changed_s = self._stage.cluster.clock.monotonic()
        if step.relabel or step.relabel_namespace or step.restart:
            self._await_identities()
        self._apply(step.apply, replaced)
        if self._refs and not step.apply:
            # What remains judges the step, by identities that may be others now.
            refs = list(self._refs.values())
            self._proven(refs, self._stage.cluster.prove(refs, self._stage.endpoints))

    def refusal(self, step: Step) -> str:
        """Try to apply what must be refused; the words of whoever refuses it, empty where nobody does."""
        try:
            self._apply(step.apply)
        except PolicyError as error:
            return error.message
        finally:
            for policy in step.apply:
                self._forget(name_of(policy.object))
        return ""

    def undo(self) -> None:
        """Remove every policy and give back every label, and prove both.

        Raises:
            ClusterStateError: the stage is not as it was.
        """
        self._delete(list(self._live))
        if not (self._pod_labels or self._space_labels):
            return
        self._relabel(
            {key: self._stage.pods[key].labels for key in self._pod_labels},
            {name: self._stage.workload.namespaces[name] for name in self._space_labels},
        )
        self._await_identities()

    def _relabel(
        self, pods: Mapping[str, Mapping[str, str]], spaces: Mapping[str, Mapping[str, str]]
    ) -> None:
        for name, labels in spaces.items():
            before = self._space_labels.get(name, self._stage.workload.namespaces[name])
            self._ever |= _of_namespace(before)
            self._space_labels[name] = labels
            self._stage.relabel_namespace(name, labels)
        for key, labels in pods.items():
            self._ever |= _own(self._pod_labels.get(key, self._stage.pods[key].labels))
            self._pod_labels[key] = labels
            self._stage.relabel_pod(key, labels)

    def _replaced(self, step: Step) -> list[str]:
        """The policies that a step's policies take the place of, where it does nothing else."""
        applied = {name_of(policy.object) for policy in step.apply}
        chosen = self._chosen(step.delete)
        if step.relabel or step.relabel_namespace or step.restart or not applied.isdisjoint(chosen):
            return []
        apart = any(policy.object["kind"] not in POLICY_KINDS for policy in step.apply)
        return [] if apart or not applied or not self._refs.keys() >= set(chosen) else chosen

    def _chosen(self, names: Iterable[str]) -> list[str]:
        found = (key for name in names for key in self._live if name in (key, key.rpartition("/")[2]))
        return list(dict.fromkeys(found))

    def _apply(self, declared: Iterable[PolicyDecl], replaced: Sequence[str] = ()) -> None:
        objects = {name_of(policy.object): self._stage.policy(policy.object) for policy in declared}
        if not objects:
            return
        # Remembered before they are applied: what is there must go, whatever happens in between.
        self._live |= {name: Ref.of(policy) for name, policy in objects.items()}
        policies = {name: policy for name, policy in objects.items() if policy["kind"] in POLICY_KINDS}
        self._stage.kube.apply_all(policy for name, policy in objects.items() if name not in policies)
        if policies:
            refs, proof = enforce_all(
                self._stage.cluster,
                self._stage.kube,
                list(policies.values()),
                self._stage.endpoints,
                replaces=[self._refs[key] for key in replaced],
            )
            for key in replaced:
                del self._live[key], self._refs[key]
            self._refs |= dict(zip(policies, refs, strict=True))
            self._proven(refs, proof)

    def _delete(self, names: Iterable[str]) -> None:
        chosen = self._chosen(names)
        for key in chosen:
            remove(self._stage.kube, self._live[key])
        refs = [self._refs[key] for key in chosen if key in self._refs]
        if refs:
            proof = self._stage.cluster.prove(refs, self._stage.endpoints, gone=True)
            self._lab.evidence.proofs.append(proof)
        for key in chosen:
            self._live.pop(key)
            self._refs.pop(key, None)
        self._now()

    def _forget(self, name: str) -> None:
        if name in self._live:
            remove(self._stage.kube, self._live.pop(name))
            self._refs.pop(name, None)

    def _proven(self, refs: Iterable[PolicyRef], proof: Proof) -> None:
        self._lab.evidence.proofs.append(proof)
        self._proofs |= dict.fromkeys(refs, proof)
        self._now()

    def _now(self) -> None:
        """Tell the lab what is in force: failures are explained by it."""
        self._lab.in_force_now[:] = [InForce((ref,), self._proofs[ref]) for ref in self._refs.values()]

    def _await_identities(self) -> None:
        """Wait until every agent knows the pods by the labels they now have.

        Raises:
            WaitTimeout: not within :data:`IDENTITY_TIMEOUT_S`.
        """
        clock = self._stage.cluster.clock
        end = clock.monotonic() + IDENTITY_TIMEOUT_S
        while True:
            wrong: list[str] = []
            with suppress(ClusterStateError):  # an agent that does not answer now may in a moment
                wrong = self._wrong_identities()
                if not wrong:
                    return
            if clock.monotonic() > end:
                raise WaitTimeout(
                    f"expected the agents to know the new labels within {IDENTITY_TIMEOUT_S:g} s: "
                    f"{'; '.join(wrong) or 'not all agents answered'}",
                    place=", ".join((*self._pod_labels, *self._space_labels)),
                )
            clock.sleep(_POLL_S)

    def _wrong_identities(self) -> list[str]:
        known = {endpoint.name: set(endpoint.identity.labels) for endpoint in self._stage.cluster.endpoints()}
        wrong = []
        for key, spec in self._stage.pods.items():
            name = str(self._stage.pod(key))
            space = key.partition("/")[0]
            now = self._pod_labels.get(key, spec.labels)
            spaced = self._space_labels.get(space, self._stage.workload.namespaces[space])
            wanted = _own(now) | _of_namespace(spaced)
            found = known.get(name, set())
            if missing := wanted - found:
                wrong.append(f"{name} lacks {', '.join(sorted(missing))}")
            if stale := (self._ever - wanted) & found:
                wrong.append(f"{name} still has {', '.join(sorted(stale))}")
        return wrong


def _own(labels: Mapping[str, str]) -> set[str]:
    return {f"k8s:{key}={value}" for key, value in labels.items()}


def _of_namespace(labels: Mapping[str, str]) -> set[str]:
    return {f"k8s:io.cilium.k8s.namespace.labels.{key}={value}" for key, value in labels.items()}
