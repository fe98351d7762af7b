"""Values, composed as helm-controller composes them; and what a run puts over them."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cilium_e2e.model import Capability, Tier, Topology, TopologyNode, ValuesError, ValuesPatch
from cilium_e2e.repository import DEFAULTS_1_18, Features, dig, leaves, load, merge
from cilium_e2e.repository.targetpath import set_value
from cilium_e2e.repository.typecheck import TYPES, check_types


def config(name: str, data: Mapping[str, str], kind: str = "ConfigMap", field: str = "data") -> str:
    lines = "".join(f"  {key}: {json.dumps(value)}\n" for key, value in data.items())
    return f"apiVersion: v1\nkind: {kind}\nmetadata: {{name: {name}, namespace: cilium}}\n{field}:\n{lines}"


def with_refs(helmrelease: str, *refs: str) -> str:
    return helmrelease.replace(
        "  values:", "  valuesFrom: [" + ", ".join(f"{{{ref}}}" for ref in refs) + "]\n  values:"
    )


def topology(*patches: ValuesPatch) -> Topology:
    return Topology(
        name="t",
        description="",
        tier=Tier.QUICK,
        capabilities=frozenset({Capability.MULTI_NODE}),
        nodes=(TopologyNode("control-plane"),),
        ip_family="ipv4",
        kind_config=Path("kind.yaml"),
        patches=patches,
    )


def test_references_merge_in_order_and_inline_values_win(tree, helmrelease: str) -> None:
    text = with_refs(
        helmrelease,
        "kind: ConfigMap, name: a",
        "kind: Secret, name: b, valuesKey: more",
        "kind: ConfigMap, name: gone, optional: true",
        "kind: ConfigMap, name: a, valuesKey: no, optional: true",
    )
    more = base64.b64encode(b"hubble: {relay: {enabled: true}}\nl7Proxy: false\n").decode()
    root = tree(
        {
            "c/release.yaml": text,
            "c/a.yaml": config(
                "a",
                {
                    "values.yaml": "l7Proxy: true\nhubble: {ui: {enabled: true}}\n"
                    "kubeProxyReplacement: false\n"
                },
            ),
            "c/b.yaml": config("b", {"more": more}, "Secret"),
        }
    )
    loaded = load(root, "c")
    assert loaded.values == {
        "hubble": {"relay": {"enabled": True}, "ui": {"enabled": True}},
        "l7Proxy": False,
        "kubeProxyReplacement": True,
    }
    assert loaded.differences == ()


def test_a_target_path_takes_one_value(tree, helmrelease: str) -> None:
    text = with_refs(
        helmrelease,
        "kind: Secret, name: s, valuesKey: host, targetPath: k8sServiceHost",
        "kind: Secret, name: s, valuesKey: port, targetPath: k8sServicePort",
    )
    root = tree(
        {
            "c/release.yaml": text,
            "c/s.yaml": config("s", {"host": "localhost", "port": "7445"}, "Secret", "stringData"),
        }
    )
    assert (load(root, "c").features.api_host, load(root, "c").features.api_port) == ("localhost", 7445)


@pytest.mark.parametrize(
    ("ref", "data", "message"),
    [
        (
            "kind: ConfigMap, name: gone",
            {"values.yaml": ""},
            "valuesFrom ConfigMap cilium/gone: the tree does not hold it",
        ),
        ("kind: ConfigMap, name: a", {"other": "x"}, "it has no key values.yaml, only other"),
        (
            "kind: ConfigMap, name: a",
            {"values.yaml": "- x"},
            "expected a mapping in the key values.yaml, got list",
        ),
        ("kind: ConfigMap, name: a", {"values.yaml": "x: ["}, "not valid YAML"),
        ("kind: ConfigMap, name: a", {"values.yaml": "l7Proxy: 3"}, "expected l7Proxy to be bool, got int 3"),
        (
            "kind: ConfigMap, name: a, valuesKey: k, targetPath: l7Proxy",
            {"k": "maybe"},
            "targetPath l7Proxy: expected l7Proxy",
        ),
        (
            "kind: ConfigMap, name: a, valuesKey: k, targetPath: 'a..b'",
            {"k": "x"},
            "cannot read the targetPath",
        ),
    ],
)
def test_references_that_cannot_be_resolved(
    tree, helmrelease: str, ref: str, data: dict[str, str], message: str
) -> None:
    root = tree({"c/release.yaml": with_refs(helmrelease, ref), "c/a.yaml": config("a", data)})
    with pytest.raises(ValuesError, match=message):
        load(root, "c")


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("a", "true", {"a": True}),
        ("a", "7445", {"a": 7445}),
        ("a", "007", {"a": "007"}),
        ("a", "'true'", {"a": "true"}),
        ("a", '"7445"', {"a": "7445"}),
        ("a", "null", {"a": None}),
        ("a", "1.5", {"a": "1.5"}),
        ("a.b", "x\n", {"a": {"b": "x"}}),
        ("a\\.b", "x", {"a.b": "x"}),
        ("a[1].b", "x", {"a": [None, {"b": "x"}]}),
        ("a", "{x,1}", {"a": ["x", 1]}),
        ("a", "x\\,y", {"a": "x,y"}),
    ],
)
def test_the_language_of_target_paths(path: str, text: str, expected: dict) -> None:
    assert set_value({}, path, text, place="p") == expected


def test_a_target_path_needs_a_way() -> None:
    with pytest.raises(ValuesError, match="b needs a mapping"):
        set_value({"a": 1}, "a.b", "x", place="p")
    with pytest.raises(ValuesError, match="Quote the value"):
        set_value({}, "a", "x,y", place="p")


def test_encrypted_secrets_are_stubbed_and_declared(tree, helmrelease: str) -> None:
    text = with_refs(
        helmrelease, "kind: Secret, name: s", "kind: Secret, name: s, valuesKey: token, targetPath: my.token"
    )
    sealed = config(
        "s",
        {"values.yaml": "ENC[AES256_GCM,data:x]", "token": "ENC[AES256_GCM,data:y]"},
        "Secret",
        "stringData",
    )
    loaded = load(tree({"c/release.yaml": text, "c/s.yaml": sealed + "sops: {version: 3.9.0}\n"}), "c")
    assert loaded.values == {"kubeProxyReplacement": True, "my": {"token": "sops-stub"}}
    assert [(each.what, each.instead, each.origin) for each in loaded.differences] == [
        ("encrypted values in Secret cilium/s of c/s.yaml", "sops-stub", "SOPS"),
        ("values from Secret cilium/s, key values.yaml", "none", "SOPS"),
    ]
    assert "sops" not in next(each.object for each in loaded.objects() if each.ref.kind == "Secret")


def test_an_encrypted_file_in_a_generated_secret_is_seen(tree, helmrelease: str) -> None:
    kustomization = (
        "resources: [release.yaml]\nnamespace: cilium\nsecretGenerator: [{name: s, files: [v.enc]}]\n"
    )
    root = tree(
        {
            "c/release.yaml": helmrelease,
            "c/kustomization.yaml": kustomization,
            "c/v.enc": '{"data": "ENC[AES256_GCM,data:x]"}',
        }
    )
    (difference,) = load(root, "c").differences
    assert difference.origin == "SOPS"


def test_a_topology_and_values_files_are_merged_and_declared(tree, helmrelease: str) -> None:
    root = tree(
        {
            "c/release.yaml": helmrelease,
            "mine.yaml": """\
        # Whatever is on this bench.

        envoy:
          # There is no image of it.
          enabled: false
        l7Proxy: false # not tested here
        operator:
          replicas: 1
        kubeProxyReplacement: true
        bpf:
          masquerade: null
        """,
        }
    )
    over = topology(ValuesPatch({"operator": {"replicas": 1}, "ipv6": {"enabled": True}}, "one node"))
    loaded = load(root, "c", values=[root / "mine.yaml"], topology=over)
    assert [str(each) for each in loaded.differences] == [
        "operator.replicas = 1 (topology t: one node)",
        "ipv6.enabled = true (topology t: one node)",
        "envoy.enabled = false (--values mine.yaml: There is no image of it.)",
        "l7Proxy = false (--values mine.yaml: not tested here)",
        "bpf.masquerade = unset (--values mine.yaml: Whatever is on this bench.)",
    ]
    assert loaded.effective == merge(loaded.values, loaded.overrides)
    assert loaded.features.operator_replicas == 1
    assert loaded.topology is over


def test_a_value_asked_for_without_a_reason_says_so(tree, helmrelease: str) -> None:
    root = tree({"c/release.yaml": helmrelease, "mine.yaml": "l7Proxy: false\n"})
    (difference,) = load(root, "c", values=[root / "mine.yaml"]).differences
    assert difference.reason == "asked for by --values"


def test_a_later_file_takes_the_place_of_an_earlier_one(tree, helmrelease: str) -> None:
    root = tree(
        {
            "c/release.yaml": helmrelease,
            "a.yaml": "cluster: {name: a}\n",
            "b.yaml": "cluster: {name: b} # why\n",
        }
    )
    (difference,) = load(root, "c", values=[root / "a.yaml", root / "b.yaml"]).differences
    assert str(difference) == "cluster.name = b (--values b.yaml: why)"


def test_every_default_passes_the_type_check_and_is_listed() -> None:
    check_types(DEFAULTS_1_18, ".".join)
    assert {".".join(path) for path, _ in leaves(DEFAULTS_1_18)} <= set(TYPES)


@pytest.mark.parametrize(
    ("values", "on", "off"),
    [
        (
            {},
            {"hubble", "l7-proxy", "envoy-daemonset", "ipv4", "ipam-cluster-pool", "tunnel-vxlan"},
            {"hubble-relay", "kube-proxy-replacement", "ipv6", "encryption", "roll-out-pods"},
        ),
        ({"kubeProxyReplacement": "true"}, {"kube-proxy-replacement"}, set()),
        ({"routingMode": "native"}, {"routing-native"}, {"tunnel-vxlan", "routing-tunnel"}),
        ({"tunnelProtocol": "geneve"}, {"tunnel-geneve"}, {"tunnel-vxlan"}),
        (
            {"encryption": {"enabled": True, "type": "wireguard"}},
            {"encryption", "encryption-wireguard"},
            {"node-encryption"},
        ),
        (
            {"hubble": {"enabled": False, "relay": {"enabled": True}}},
            set(),
            {"hubble", "hubble-relay", "hubble-tls"},
        ),
        (
            {"hubble": {"relay": {"enabled": True, "tls": {"server": {"enabled": True}}}}},
            {"hubble-relay", "hubble-relay-tls"},
            {"hubble-metrics"},
        ),
        (
            {"hubble": {"tls": {"enabled": False}, "relay": {"tls": {"server": {"enabled": True}}}}},
            {"hubble"},
            {"hubble-relay-tls"},
        ),
        ({"hubble": {"metrics": {"enabled": ["flow"]}}}, {"hubble-metrics"}, set()),
        ({"hubble": {"metrics": {"enabled": []}}}, {"hubble"}, {"hubble-metrics"}),
        ({"hubble": {"enabled": False, "metrics": {"enabled": ["flow"]}}}, set(), {"hubble-metrics"}),
        ({"envoy": {"enabled": False}}, {"l7-proxy"}, {"envoy-daemonset"}),
        ({"l7Proxy": False}, set(), {"l7-proxy", "envoy-daemonset"}),
        ({"l7Proxy": None}, set(), {"l7-proxy"}),
        ({"policyEnforcementMode": "always"}, {"policy-enforcement-always"}, {"policy-enforcement-default"}),
    ],
)
def test_features(values: dict, on: set[str], off: set[str]) -> None:
    names = Features.of(values).names
    assert on <= names
    assert not off & names


@given(
    st.dictionaries(st.sampled_from(sorted(path for path in TYPES if "." not in path)), st.none(), max_size=4)
)
def test_features_survive_any_removed_default(values: dict) -> None:
    assert Features.of(values).names


def test_dig_of_the_recorded_release() -> None:
    assert dig(DEFAULTS_1_18, "operator.replicas") == 2
