"""What is deleted, what is swept, and what belongs to somebody else."""

from __future__ import annotations

import pytest

from cilium_e2e.cluster.engine import NodeContainer
from cilium_e2e.model import (
    EXIT_INTERRUPTED,
    BackendUnavailable,
    ClusterStateError,
    EngineError,
)
from cilium_e2e.session import teardown
from cilium_e2e.session.registry import Record, Registry


def record(name, *, engine="", keep=False):
    return Record(name, "default", engine, keep, {})


@pytest.fixture
def registry(tmp_path):
    found = Registry(tmp_path / "state")
    found._folder.mkdir()
    return found


@pytest.fixture
def cluster(world, registry):
    """Makes a cluster object; which one there is on the engine is ``world.clusters``."""
    return lambda name="ce2e-test": teardown.KindCluster(name, state=registry._folder)


@pytest.fixture
def swept(world, registry, cluster):
    return lambda: teardown.sweep(registry, world.engine(), cluster("any"), world.said.append)


class TestDelete:
    def test_everything_of_it(self, world, registry, cluster):
        registry.write(record("ce2e-test"))
        (registry._folder / "ce2e-test.kind.yaml").touch()
        (registry._folder / "ce2e-test2.kind.yaml").touch()
        world.clusters = ["ce2e-test", "ce2e-test2"]
        world.containers = ["ce2e-test-artifacts"]
        teardown.delete(cluster(), world.engine(), registry)
        assert world.clusters == ["ce2e-test2"]
        assert world.log[1:] == ["delete", "ours", "remove ce2e-test-artifacts"]
        assert sorted(file.name for file in registry._folder.iterdir()) == ["ce2e-test2.kind.yaml"]

    def test_what_was_never_there(self, world, registry, cluster):
        teardown.delete(cluster(), world.engine(), registry)

    def test_a_node_that_kind_no_longer_knew_of(self, world, registry, cluster):
        world.nodes = [NodeContainer("ce2e-test-worker", "worker")]
        teardown.delete(cluster(), world.engine(), registry)
        assert "remove ce2e-test-worker" in world.log

    @pytest.mark.parametrize("step", ["delete", "ours", "remove ce2e-test-artifacts"])
    @pytest.mark.parametrize(
        "error",
        [
            EngineError("the container engine failed: connection refused", place="there"),
            BackendUnavailable("kind cannot be run: no such file", place="kind"),
        ],
    )
    def test_what_fails_says_how_to_do_it_by_hand(self, world, registry, cluster, step, error):
        registry.write(record("ce2e-test"))
        world.containers = ["ce2e-test-artifacts"]
        world.fails = {step: error}
        with pytest.raises(ClusterStateError) as caught:
            teardown.delete(cluster(), world.engine(), registry)
        assert caught.value.exit_code == EXIT_INTERRUPTED
        assert str(caught.value) == (
            f"cluster ce2e-test: not all of it could be deleted: {error}. Do it by hand: "
            "kind delete cluster --name ce2e-test; "
            "docker ps -aq --filter label=io.cilium-e2e.run=ce2e-test | xargs docker rm -f"
        )
        assert registry.find("ce2e-test") is not None, "it is remembered, so that it can be tried again"

    def test_all_failures_are_told(self, world, registry, cluster):
        world.fails = {"delete": EngineError("one"), "ours": EngineError("two")}
        with pytest.raises(ClusterStateError, match="one; two"):
            teardown.delete(cluster(), world.engine(), registry)


class TestSweep:
    def test_nothing(self, world, swept):
        assert swept() == []
        assert world.said == []

    def test_only_what_dead_runs_left_on_this_engine(self, world, registry, swept):
        """Clusters of others have no record with us; what is kept or in use is no left-over."""
        for one in (
            record("ce2e-dead1"),
            record("ce2e-dead2"),
            record("ce2e-kept", keep=True),
            record("ce2e-alive"),
            record("ce2e-elsewhere", engine="tcp://x:1"),
        ):
            registry.write(one)
        world.clusters = ["kind", "ce2e-other", *(one.name for one in registry.records())]
        with registry.claim("ce2e-alive"):
            assert swept() == ["ce2e-dead1", "ce2e-dead2"]
        assert world.clusters == ["kind", "ce2e-other", "ce2e-alive", "ce2e-elsewhere", "ce2e-kept"]
        assert [one.name for one in registry.records()] == ["ce2e-alive", "ce2e-elsewhere", "ce2e-kept"]
        assert world.said == [
            f"sweeping cluster {name}, which a run that is dead left behind"
            for name in ("ce2e-dead1", "ce2e-dead2")
        ]
        assert sorted(file.name for file in registry._folder.glob("ce2e-dead*")) == []

    def test_one_that_stays_keeps_no_other(self, world, registry, swept):
        for name in ("ce2e-a", "ce2e-b", "ce2e-c"):
            registry.write(record(name))
        world.fails = {
            "delete ce2e-a": EngineError("device busy"),
            "delete ce2e-c": EngineError("device gone"),
        }
        with pytest.raises(ClusterStateError) as caught:
            swept()
        lines = str(caught.value).splitlines()
        assert len(lines) == 2
        assert "device busy" in lines[0]
        assert "kind delete cluster --name ce2e-a" in lines[0]
        assert "kind delete cluster --name ce2e-c" in lines[1]
        assert [one.name for one in registry.records()] == ["ce2e-a", "ce2e-c"]

    def test_one_that_another_run_takes_meanwhile(self, world, registry, swept):
        """Two runs begin at the same time and both see the same left-over."""
        registry.write(record("ce2e-a"))
        registry.write(record("ce2e-b"))
        claims = []

        def take() -> None:
            claims.append(registry.claim("ce2e-b"))
            claims[0].__enter__()

        world.fails = {"delete ce2e-a": take}
        assert swept() == ["ce2e-a"]
        claims[0].__exit__(None, None, None)
        assert "delete ce2e-b" not in world.log

    def test_one_that_another_run_has_swept_meanwhile(self, world, registry, swept):
        registry.write(record("ce2e-a"))
        registry.write(record("ce2e-b"))
        world.fails = {"delete ce2e-a": lambda: registry.forget("ce2e-b")}
        assert swept() == ["ce2e-a"]
        assert "delete ce2e-b" not in world.log

    def test_one_whose_name_was_taken_by_a_cluster_to_keep(self, world, registry, swept):
        registry.write(record("ce2e-a"))
        registry.write(record("ce2e-b"))
        world.fails = {"delete ce2e-a": lambda: registry.write(record("ce2e-b", keep=True))}
        assert swept() == ["ce2e-a"]
        assert registry.find("ce2e-b") == record("ce2e-b", keep=True)

    def test_an_interruption_leaves_the_rest_to_the_next_run(self, world, registry, swept):
        registry.write(record("ce2e-a"))
        registry.write(record("ce2e-b"))
        world.fails = {"delete ce2e-a": KeyboardInterrupt()}
        with pytest.raises(KeyboardInterrupt):
            swept()
        world.fails = {}
        assert swept() == ["ce2e-a", "ce2e-b"]
