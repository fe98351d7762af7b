import pytest

from cilium_e2e.policy.addresses import parse_prefix
from cilium_e2e.policy.index import IdentityIndex, numbers
from cilium_e2e.policy.labels import Label, LabelSet, identity_relevant, pod_labels, selector_key, split_key
from cilium_e2e.policy.selectors import Operator, Requirement, Selector


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("app", "any.app"),
        ("k8s:app", "k8s.app"),
        ("any:app", "any.app"),
        ("reserved:host", "reserved.host"),
        ("reserved.host", "reserved.host"),
        ("$host", "reserved.host"),
        (":app", "any.app"),
        ("app=web", "any.app"),
        ("cidr:203.0.113.0/24", "cidr.203.0.113.0/24"),
    ],
)
def test_keys_as_policies_write_them(written, key):
    assert selector_key(written) == key


def test_a_key_without_source_splits_at_its_first_dot():
    assert split_key("app") == ("any", "app")
    assert split_key("app.kubernetes.io/name") == ("app", "kubernetes.io/name")


@pytest.mark.parametrize(
    ("key", "relevant"),
    [
        ("app", True),
        ("app.kubernetes.io/name", True),
        ("io.kubernetes.pod.namespace", True),
        ("io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name", True),
        ("kubernetes.io/hostname", False),
        ("pod-template-hash", False),
        ("statefulset.kubernetes.io/pod-name", False),
        ("beta.kubernetes.io/arch", False),
        ("k8s.io/x", False),
        ("my-pod-template-hash", True),
    ],
)
def test_the_default_label_filter(key, relevant):
    assert identity_relevant(Label("k8s", key, "x")) is relevant


def test_labels_of_a_pod():
    found = pod_labels(
        {"app": "web", "io.cilium.k8s.policy.cluster": "forged", "pod-template-hash": "1"},
        namespace="alpha",
        namespace_labels={"team": "red"},
        service_account="robot",
        cluster="default",
    )
    assert str(found).split(",") == [
        "k8s:app=web",
        "k8s:io.cilium.k8s.namespace.labels.team=red",
        "k8s:io.cilium.k8s.policy.cluster=default",
        "k8s:io.cilium.k8s.policy.serviceaccount=robot",
        "k8s:io.kubernetes.pod.namespace=alpha",
    ]


IDENTITIES = [
    LabelSet([Label("k8s", "app", "web"), Label("k8s", "empty", "")]),
    LabelSet([Label("k8s", "app", "db")]),
    LabelSet([Label("reserved", "world"), Label("cidr", "203.0.113.0/25")]),
    LabelSet([Label("reserved", "host"), Label("k8s", "role", "edge")]),
]
SELECTORS = [
    (Selector(), [0, 1, 2, 3]),
    (Selector.of([("any.app", "web")]), [0]),
    (Selector.of([("container.app", "web")]), []),
    (Selector.of([("k8s.empty", "")]), [0]),
    (Selector((Requirement("any.app", Operator.NOT_IN, ("web",)),)), [1, 2, 3]),
    (Selector((Requirement("any.app", Operator.EXISTS),)), [0, 1]),
    (Selector((Requirement("any.app", Operator.DOES_NOT_EXIST),)), [2, 3]),
    (Selector.reserved("host"), [3]),
    (Selector((Requirement("cidr.203.0.113.0/24", Operator.EXISTS),)), [2]),
    (Selector((Requirement("cidr.203.0.113.0/28", Operator.EXISTS),)), []),
    (Selector((Requirement("any.app", Operator.IN, ()),)), []),
    (Selector((Requirement("not a key", Operator.DOES_NOT_EXIST),)), []),
    (Selector((Requirement("any.app", "Unheard"),)), []),
]


@pytest.mark.parametrize(("selector", "selected"), SELECTORS)
def test_selectors_and_index_agree(selector, selected):
    assert [n for n, labels in enumerate(IDENTITIES) if selector.matches(labels)] == selected
    assert numbers(IdentityIndex(IDENTITIES).select(selector)) == selected


def test_an_identity_knows_its_prefix():
    assert IDENTITIES[2].networks == (parse_prefix("203.0.113.0/25"),)
