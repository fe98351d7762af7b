from cilium_e2e.model import Decision, Direction, PolicyRef, RuleRef, TimeWindow, Verdict
from cilium_e2e.model.transport import Ref


def test_either_side_denies():
    allowed, denied, none = Decision.ALLOWED, Decision.DENIED, Decision.NONE
    assert Verdict(allowed, none).passes
    assert Verdict(denied, allowed).denied_at is Direction.EGRESS
    assert Verdict(denied, denied).denied_at is Direction.EGRESS
    assert Verdict(none, denied).denied_at is Direction.INGRESS
    assert Verdict(none, none).denied_at is None


def test_rules_have_an_order():
    policy = PolicyRef("CiliumNetworkPolicy", "default", "a")
    first = RuleRef(policy, Direction.EGRESS, deny=False, path="spec.egress[0]")
    second = RuleRef(policy, Direction.INGRESS, deny=False, path="spec.ingress[0]")
    assert sorted([second, first]) == [first, second]
    assert str(second) == "CiliumNetworkPolicy default/a, spec.ingress[0]"


def test_a_window_is_closed():
    window = TimeWindow(1.0, 2.0)
    assert 1.0 in window
    assert 2.0 in window
    assert 2.1 not in window
    assert "now" not in window


def test_a_reference_of_an_object():
    obj = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "x"}}
    assert Ref.of(obj) == Ref("v1", "Pod", "a", "x")
    assert str(Ref.of(obj)) == "Pod x/a"
    assert str(Ref("v1", "Node")) == "Node"
