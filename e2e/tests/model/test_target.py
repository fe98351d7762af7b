import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import Destination, InputError, Protocol, Target, TargetKind

label = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
subdomain = st.lists(label, min_size=1, max_size=3).map(".".join)
targets = st.one_of(
    st.builds(Target.pod, label, subdomain),
    st.builds(Target.service, label, label),
    st.builds(Target.node, subdomain),
    st.builds(Target.world, label),
    st.builds(Target.dns, subdomain),
    st.builds(Target.address, st.ip_addresses().map(str)),
)
destinations = st.one_of(
    st.builds(
        Destination,
        targets,
        st.integers(1, 65535),
        st.sampled_from([p for p in Protocol if p is not Protocol.ICMP]),
    ),
    st.builds(Destination, targets, st.just(0), st.just(Protocol.ICMP)),
)


@given(targets)
def test_a_target_reads_back_as_written(target):
    assert Target.parse(str(target)) == target


@given(destinations)
def test_a_destination_reads_back_as_written(destination):
    assert Destination.parse(str(destination)) == destination


@given(st.text(max_size=40))
def test_any_text_is_a_target_or_one_clear_error(text):
    try:
        assert str(Target.parse(text)) == text
    except InputError as error:
        assert "ns/pod" in str(error)


@given(st.text(max_size=40))
def test_any_text_is_a_destination_or_an_input_error(text):
    try:
        Destination.parse(text)
    except InputError as error:
        assert error.place


@pytest.mark.parametrize(
    ("text", "kind", "namespace", "name"),
    [
        ("default/demo", TargetKind.POD, "default", "demo"),
        ("svc:kube-system/kube-dns", TargetKind.SERVICE, "kube-system", "kube-dns"),
        ("node:lab-worker", TargetKind.NODE, "", "lab-worker"),
        ("world:outside", TargetKind.WORLD, "", "outside"),
        ("ip:10.0.0.1", TargetKind.ADDRESS, "", "10.0.0.1"),
        ("ip:fd00::1", TargetKind.ADDRESS, "", "fd00::1"),
        (
            "dns:kubernetes.default.svc.cluster.local.",
            TargetKind.DNS,
            "",
            "kubernetes.default.svc.cluster.local.",
        ),
    ],
)
def test_each_form(text, kind, namespace, name):
    assert Target.parse(text) == Target(kind, name, namespace)


@pytest.mark.parametrize(
    "text",
    [
        *("", "demo", "Default/demo", "svc:demo", "node:a/b", "pod:a/b", "a/b/c"),
        *("ip:", "ip:10.0.0", "ip:fd00:0::1", "ip:fe80::1%eth0", "ip:10.0.0.1/8", "ip:bad"),
    ],
)
def test_what_is_no_target(text):
    with pytest.raises(InputError, match="expected ns/pod"):
        Target.parse(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("default/demo", "TARGET:PORT/PROTOCOL"),
        ("default/demo:8080", "protocols TCP"),
        ("default/demo:8080/QUIC", "'QUIC'"),
        ("default/demo:http/TCP", "port number"),
        ("default/demo:0/TCP", "from 1 to 65535"),
        ("default/demo:65536/UDP", "from 1 to 65535"),
        ("default/demo:7/ICMP", "from 0 to 0"),
    ],
)
def test_what_is_no_destination(text, says):
    with pytest.raises(InputError, match=says):
        Destination.parse(text)


def test_the_port_comes_after_the_last_colon():
    destination = Destination.parse("ip:fd00::1:8080/TCP")
    assert (destination.target, destination.port) == (Target.address("fd00::1"), 8080)
    assert Destination.parse("ip:fd00::1:ICMP").target == Target.address("fd00::1")


def test_a_namespace_where_none_belongs():
    with pytest.raises(InputError, match="has no namespace"):
        Target(TargetKind.NODE, "a", "b")
    with pytest.raises(InputError, match="needs namespace"):
        Target(TargetKind.POD, "a")


def test_transport():
    assert Protocol.HTTP.transport == "TCP"
    assert Protocol.DNS.transport == "UDP"
    assert Protocol.SCTP.transport == "SCTP"
