"""A reconcile on request: awaited until it has been handled, and is good."""

from __future__ import annotations

from typing import Any

import pytest

from cilium_e2e.flux.request import ANNOTATION, reconcile
from cilium_e2e.kube import Kube
from cilium_e2e.model import KubeError, Ref, WaitTimeout
from support.memory import MemoryTransport

REF = Ref("helm.toolkit.fluxcd.io/v2", "HelmRelease", "cilium", "cilium")


def release(*, handled: str = "", ready: str = "True", reason: str = "InstallSucceeded") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "reason": reason, "message": "so it is"}]
    return {
        "apiVersion": REF.api_version,
        "kind": REF.kind,
        "metadata": {"name": REF.name, "namespace": REF.namespace},
        "status": {"conditions": conditions, "lastHandledReconcileAt": handled},
    }


def asked(api: MemoryTransport) -> str:
    token: str = api.patched[-1][1]["metadata"]["annotations"][ANNOTATION]
    return token


def test_waits_until_it_was_handled_and_is_good() -> None:
    api = MemoryTransport(release(handled="earlier"))
    api.later(2, lambda: api.put(release(handled=asked(api), ready="Unknown", reason="Progressing")))
    api.later(5, lambda: api.put(release(handled=asked(api))))
    began = api.clock.now
    answer = reconcile(Kube(api, clock=api.clock), REF, timeout_s=30)
    assert answer["status"]["lastHandledReconcileAt"] == asked(api)
    assert api.clock.now - began == pytest.approx(5, abs=0.6)


def test_each_request_is_another() -> None:
    api = MemoryTransport(release())
    tokens = set()
    for _ in range(3):
        api.later(1, lambda: api.put(release(handled=asked(api))))
        reconcile(Kube(api, clock=api.clock), REF, timeout_s=30)
        tokens.add(asked(api))
    assert len(tokens) == 3


def test_what_does_not_become_good_is_told_in_fluxs_words() -> None:
    api = MemoryTransport(release())
    api.later(1, lambda: api.put(release(handled=asked(api), ready="False", reason="UpgradeFailed")))
    with pytest.raises(WaitTimeout, match="Ready=False UpgradeFailed: so it is"):
        reconcile(Kube(api, clock=api.clock), REF, timeout_s=10)


def test_what_nobody_handles() -> None:
    api = MemoryTransport(release())
    with pytest.raises(WaitTimeout, match="expected the requested reconcile of HelmRelease cilium/cilium"):
        reconcile(Kube(api, clock=api.clock), REF, timeout_s=10)


def test_what_is_not_there() -> None:
    api = MemoryTransport()
    with pytest.raises(KubeError, match="not found"):
        reconcile(Kube(api, clock=api.clock), REF, timeout_s=10)
