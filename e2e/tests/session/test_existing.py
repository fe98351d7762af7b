"""A cluster that is there already: looked at, waited for, never made or deleted."""

from __future__ import annotations

import pytest

from cilium_e2e.model import (
    EXIT_USAGE,
    Backend,
    BackendUnavailable,
    ClusterStateError,
    KubeError,
    WaitTimeout,
)
from cilium_e2e.session import Options
from cilium_e2e.session.attach import attach
from cilium_e2e.session.existing import ExistingSession


def release(status: str, message: str = "fine") -> dict:
    return {
        "kind": "HelmRelease",
        "metadata": {"name": "cilium", "namespace": "cilium", "generation": 1},
        "spec": {},
        "status": {"conditions": [{"type": "Ready", "status": status, "reason": "R", "message": message}]},
    }


@pytest.fixture
def session(world, tmp_path):
    kubeconfig = tmp_path / "kubeconfig"

    def make(**given):
        options = {"backend": "existing", "kubeconfig": kubeconfig, "context": "prod", "timeout_s": 1.0}
        return ExistingSession(Options(**{**options, **given}), world.said.append)

    return make


def test_it_is_looked_at_and_left_as_it_is(world, session):
    world.release = release("True")
    run = session()
    handle = run.start()
    run.stop()
    assert handle.info.backend is Backend.EXISTING
    assert (handle.info.name, handle.context) == ("prod", "prod")
    assert [node.name for node in handle.info.nodes] == ["a", "b"]
    assert world.said[0].startswith("backend: existing (asked for: ")
    assert {step.split()[0] for step in world.log} == {"prepare", "connect", "list", "get", "disconnect"}


def test_it_needs_a_kubeconfig(session, world):
    with pytest.raises(BackendUnavailable) as caught:
        session(kubeconfig=None).start()
    assert caught.value.exit_code == EXIT_USAGE
    assert str(caught.value) == (
        "--backend existing: an existing cluster needs a kubeconfig. Give --kubeconfig."
    )
    assert world.log == []


@pytest.mark.parametrize(("status", "refused"), [(403, BackendUnavailable), (422, KubeError)])
def test_who_has_no_access_is_told(world, session, status, refused):
    world.fails = {"list Node": KubeError(status, "Why", "you may not list nodes")}
    with pytest.raises(refused, match="you may not list nodes"):
        session().start()
    assert world.log[-1] == "disconnect"


def test_another_cluster_is_told(world, session):
    with pytest.raises(ClusterStateError, match="the HelmRelease of the tree is not on the cluster"):
        session().start()
    assert world.log[-1] == "disconnect"


def test_a_release_that_is_not_ready_is_told_in_fluxs_words(world, session):
    world.release = release("False", "the chart does not like the values")
    with pytest.raises(ClusterStateError, match="the chart does not like the values"):
        session().start()


def test_the_tree_is_not_published_to_it(world, session):
    world.release = release("True")
    attached = attach(session().start(), Options(backend="existing"))
    with pytest.raises(BackendUnavailable, match="published by its own Flux"):
        attached.publish()


def test_nodes_that_are_not_ready_are_told(world, session):
    world.release = release("True")
    world.unready = {"b"}
    with pytest.raises(WaitTimeout, match=r"2 nodes to be ready within 0\.2 s"):
        session(timeout_s=0.2).start()
