"""The agents outside the cluster, as containers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence

import docker
import docker.errors
import pytest

from cilium_e2e.cluster import world as module
from cilium_e2e.cluster.engine import RUN_LABEL, Engine
from cilium_e2e.cluster.world import WorldAgents, container
from cilium_e2e.model import EngineError, WorldAgent
from cilium_e2e.probe.agent.zone import Zone
from support.docker import FakeContainer, FakeDocker

IMAGE = "python:3.13-slim"
ONE, TWO = "x-world-one", "x-world-two"
Make = Callable[..., WorldAgents]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    found = FakeDocker()
    found.local_images[IMAGE] = [b""]
    found.ipv6 = True
    monkeypatch.setattr(docker, "from_env", lambda timeout: found)
    return found


@pytest.fixture
def make(fake: FakeDocker) -> Iterator[Make]:
    with contextlib.ExitStack() as opened:

        def go(ip_family: str = "ipv4", image: str = IMAGE) -> WorldAgents:
            engine = Engine()
            opened.callback(engine.close)
            return WorldAgents(engine, "x", image=image, ip_family=ip_family)

        yield go


def made(fake: FakeDocker) -> tuple[FakeContainer, FakeContainer]:
    return fake.by_name[ONE], fake.by_name[TWO]


def failing(fake: FakeDocker, name: str, word: str) -> None:
    """Let a command with a word in it fail in a container."""

    def act(where: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
        return (1, b"", b"") if where == name and word in command else (0, b"", b"")

    fake.on_exec = act


def test_two_agents_with_their_names_beside_the_nodes(make: Make, fake: FakeDocker) -> None:
    assert make().start() == (WorldAgent("one", ("172.18.0.101",)), WorldAgent("two", ("172.18.0.102",)))
    for name, found in zip(("one", "two"), made(fake), strict=True):
        assert found.name == container("x", name)
        assert found.labels[RUN_LABEL] == "x"
        assert found.status == "running"
        assert found.created["network"] == "kind"
        assert found.created["image"] == IMAGE
        assert found.created["environment"]["AGENT_NAME"] == f"world:{name}"
        assert found.created["environment"]["PYTHONPATH"] == "/cilium-e2e"
        compile(found.files["//cilium-e2e/agent/__main__.py"][1], "agent", "exec")
        assert ["python3", "-m", "agent", "ready", "--timeout", "30"] in found.ran


def test_ping_and_low_ports_need_no_root(make: Make, fake: FakeDocker) -> None:
    make().start()
    for found in made(fake):
        user, _, group = found.created["user"].partition(":")
        assert int(user) > 0
        assert found.folders == {"//cilium-e2e": 0o755, "//cilium-e2e/agent": 0o755}, (
            "it can read its program"
        )
        assert {mode for mode, _ in found.files.values()} == {0o644}
        assert found.created["sysctls"]["net.ipv4.ping_group_range"] == f"{group} {group}"
        assert found.created["sysctls"]["net.ipv4.ip_unprivileged_port_start"] == "0"


def test_what_they_serve(make: Make, fake: FakeDocker) -> None:
    make().start()
    one, two = made(fake)
    ports = ["--tcp", "8080", "--udp", "8080", "--http", "8081"]
    assert two.created["command"] == ["python3", "-m", "agent", "serve", *ports]
    python, program, _, role, *command = one.created["command"]
    assert (python, role) == ("python3", "run")
    assert f"/{program}" in one.files
    assert command == ["python3", "-m", "agent", "serve", *ports, "--dns", "53"]


def test_the_zone_has_the_addresses_of_both(make: Make, fake: FakeDocker) -> None:
    """They are known only when the containers run, so they are told the one that waits for them."""
    make("dual").start()
    one, _ = made(fake)
    (told,) = [command for command in one.ran if "give" in command]
    assert told[:2] == one.created["command"][:2]
    assert told[2] == one.created["command"][2], "the same pipe"
    words = told[told.index("give") + 1 :]
    assert words[0::2] == ["--record"] * (len(words) // 2)
    zone = Zone.parse(words[1::2])
    v4 = {
        name: [".".join(map(str, raw)) for raw in zone.look_up(f"{name}.e2e.test", 1)[1]]
        for name in ("one", "two", "both", "x.any", "y.deep.any")
    }
    assert v4 == {
        "one": ["172.18.0.101"],
        "two": ["172.18.0.102"],
        "both": ["172.18.0.101", "172.18.0.102"],
        "x.any": ["172.18.0.101"],
        "y.deep.any": ["172.18.0.101"],
    }
    assert len(zone.look_up("both.e2e.test", 28)[1]) == 2
    assert zone.look_up("none.e2e.test", 1) == (3, [])
    assert one.ran.index(told) < one.ran.index(["python3", "-m", "agent", "ready", "--timeout", "30"])


@pytest.mark.parametrize(
    ("family", "expected"),
    [("ipv4", ("172.18.0.101",)), ("ipv6", ("fc00::101",)), ("dual", ("172.18.0.101", "fc00::101"))],
)
def test_addresses_are_those_that_pods_can_reach(make: Make, family: str, expected: tuple[str, ...]) -> None:
    """kind's network has IPv6 also under a cluster that has not."""
    assert make(family).start()[0].ips == expected


def test_a_network_without_the_cluster_s_family(make: Make, fake: FakeDocker) -> None:
    fake.ipv6 = False
    with pytest.raises(EngineError) as caught:
        make("ipv6").start()
    assert str(caught.value) == (
        f"container {ONE}: expected an IPv6 address on network kind, got 172.18.0.101"
    )


class TestAgain:
    """A kept cluster."""

    def test_those_that_run_stay(self, make: Make, fake: FakeDocker) -> None:
        first = make().start()
        before = made(fake)
        assert make().start() == first
        assert made(fake) == before
        assert fake.started == 2

    @pytest.mark.parametrize("name", [ONE, TWO])
    def test_one_that_has_ended_has_both_made_anew(self, make: Make, fake: FakeDocker, name: str) -> None:
        """After a reboot, for example; the zone has the addresses of both."""
        make().start()
        fake.by_name[name].status = "exited"
        assert make().start()[0].ips == ("172.18.0.103",)
        assert [found.status for found in made(fake)] == ["running", "running"]
        assert any("one.e2e.test=172.18.0.103" in command for command in made(fake)[0].ran)

    def test_one_that_is_gone(self, make: Make, fake: FakeDocker) -> None:
        make().start()
        del fake.by_name[TWO]
        make().start()
        assert fake.started == 4

    def test_another_agent_image_or_family_has_them_made_anew(
        self, make: Make, fake: FakeDocker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fake.local_images["python:x"] = [b""]
        make().start()
        make(image="python:x").start()
        assert fake.started == 4
        make("dual", image="python:x").start()
        assert fake.started == 6
        changed = {**module.agent_files(), "probes.py": "# changed\n"}
        monkeypatch.setattr(module, "agent_files", lambda: changed)
        make("dual", image="python:x").start()
        assert fake.started == 8
        assert made(fake)[1].files["//cilium-e2e/agent/probes.py"][1] == b"# changed\n"

    def test_one_that_never_got_its_records(self, make: Make, fake: FakeDocker) -> None:
        """A run was killed between the two steps: it runs, and waits for ever."""
        make().start()

        def act(where: str, command: Sequence[str]) -> tuple[int, bytes, bytes]:
            stuck = fake.started == 2 and where == ONE and "ready" in command
            return (1, b"", b"") if stuck else (0, b"", b"")

        fake.on_exec = act
        make().start()
        assert fake.started == 4


def test_one_that_does_not_serve(make: Make, fake: FakeDocker) -> None:
    failing(fake, TWO, "ready")
    with pytest.raises(EngineError) as caught:
        make().start()
    text = str(caught.value)
    assert text.startswith(f"container {TWO}: expected the agent to serve within 30 s, and it does not: ")
    assert f"docker logs {TWO} may say why" in text


def test_records_that_do_not_arrive(make: Make, fake: FakeDocker) -> None:
    failing(fake, ONE, "give")
    with pytest.raises(EngineError, match=f"python3 in container {ONE}: exit code 1"):
        make().start()


def test_its_image_is_pulled_only_where_the_engine_has_none(make: Make, fake: FakeDocker) -> None:
    make().start()
    assert fake.pulled == []
    make(image="python:other").start()
    assert fake.pulled == ["python:other"]


def test_they_leave_with_their_cluster(make: Make, fake: FakeDocker) -> None:
    make().start()
    engine = Engine()
    assert engine.ours("x") == [ONE, TWO]
    for name in engine.ours("x"):
        engine.remove(name)
    assert fake.by_name == {}
    engine.close()
