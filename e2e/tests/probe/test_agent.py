"""The agent's two halves, as processes on loopback."""

from __future__ import annotations

import ast
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

import cilium_e2e.probe.agent
from cilium_e2e.model import OutcomeKind, Protocol, Target
from cilium_e2e.probe import agent_files
from cilium_e2e.probe.agent.door import door, ready
from cilium_e2e.probe.agent.names import RECORDS, answers
from cilium_e2e.probe.agent.zone import Zone

TCP, UDP, HTTP, DNS, ICMP, SCTP = (Protocol[n] for n in ("TCP", "UDP", "HTTP", "DNS", "ICMP", "SCTP"))
WORLD_NAME = Target.dns("localhost")


@contextmanager
def listener(kind=socket.SOCK_STREAM, answer=None):
    """A local server that does to each connection, or datagram, what ``answer`` does."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            sock.listen(16)
        sock.settimeout(5)
        if answer is not None:
            threading.Thread(target=answer, args=(sock,), daemon=True).start()
        yield sock.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_answers_with_its_name(loopback, protocol, host):
    loopback.hosts[Target.pod("there", "server")] = host
    outcome = loopback.ask(protocol)
    assert outcome.kind is OutcomeKind.CONNECTED
    assert outcome.answered_by == loopback.name
    assert outcome.source_ip == outcome.destination_ip == outcome.seen_from == host
    assert outcome.source_port > 0
    assert 0 < outcome.elapsed_s < 2


def test_http_reports_status_and_who_answered(loopback):
    ok = loopback.ask(HTTP)
    assert (ok.kind, ok.status, ok.answered_by, ok.connected) == (OutcomeKind.HTTP, 200, loopback.name, True)
    assert ok.seen_from == "127.0.0.1"
    forbidden = loopback.ask(HTTP, path="/status/403", method="PUT", headers=(("X-Who", "me"),))
    assert (forbidden.status, forbidden.connected) == (403, False)
    assert loopback.ask(HTTP, path="/echo").status == 200


def test_http_says_which_server_answered_instead(loopback):
    def envoy(sock):
        peer, _ = sock.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.1 403 Forbidden\r\nserver: envoy\r\ncontent-length: 0\r\n\r\n")

    with listener(answer=envoy) as port:
        outcome = loopback.ask(HTTP, port=port)
    assert (outcome.status, outcome.answered_by, outcome.detail) == (403, "", "server: envoy")
    assert outcome.seen_from == ""


@pytest.mark.parametrize("rest", [b"", b" 0123456789abcdef", b" 10.0.0.300"])
def test_an_answer_without_the_asking_address_is_one_all_the_same(loopback, rest):
    """An agent of another version, or somebody who imitates one."""

    def answer(sock):
        peer, _ = sock.accept()
        with peer:
            peer.sendall(b"cilium-e2e-agent/1 a/b" + rest + b"\n")
            peer.recv(100)

    with listener(answer=answer) as port:
        outcome = loopback.ask(TCP, port=port)
    assert (outcome.kind, outcome.answered_by) == (OutcomeKind.CONNECTED, "a/b")
    assert outcome.seen_from == ""


def test_an_address_is_dialled_as_it_is(loopback):
    outcome = loopback.ask(TCP, target=Target.address("::1"))
    assert (outcome.answered_by, outcome.destination_ip, outcome.seen_from) == (loopback.name, "::1", "::1")


@pytest.mark.parametrize("protocol", [TCP, UDP])
def test_payloads_come_back_whole(loopback, protocol):
    size = 3_000_000 if protocol is TCP else 60_000
    assert loopback.ask(protocol, payload_bytes=size, timeout_s=10.0).kind is OutcomeKind.CONNECTED


def test_a_payload_no_datagram_can_carry_is_an_error_of_the_run(loopback):
    assert loopback.ask(UDP, payload_bytes=70_000).kind is OutcomeKind.INFRA_ERROR


@pytest.mark.parametrize("protocol", [TCP, UDP, HTTP])
def test_closed_port_is_refused(loopback, protocol):
    with listener() as port:
        pass
    outcome = loopback.ask(protocol, port=port)
    assert outcome.kind is OutcomeKind.REFUSED
    assert outcome.source_port > 0


@pytest.mark.parametrize("protocol", [UDP, HTTP])
def test_silence_is_a_timeout_of_the_length_asked_for(loopback, protocol):
    kind = socket.SOCK_DGRAM if protocol is UDP else socket.SOCK_STREAM
    with listener(kind) as port:
        outcome = loopback.ask(protocol, port=port, timeout_s=0.3)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert 0.3 <= outcome.elapsed_s < 1.0
    assert outcome.source_port > 0


def test_silence_that_nobody_listened_to_is_no_timeout(loopback):
    loopback.ask(TCP)
    process = loopback.streams[0].process
    with listener(socket.SOCK_DGRAM) as port, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(loopback.ask, UDP, port=port, timeout_s=0.4)
        time.sleep(0.2)
        process.send_signal(signal.SIGSTOP)
        time.sleep(1.7)
        process.send_signal(signal.SIGCONT)
        outcome = asking.result()
    assert outcome.kind is OutcomeKind.INFRA_ERROR
    assert "not scheduled" in outcome.detail


def test_unanswered_connection_request_is_a_timeout(loopback):
    # A full backlog drops connection requests, as a policy does.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        with socket.create_connection(sock.getsockname()):
            outcome = loopback.ask(TCP, port=sock.getsockname()[1], timeout_s=0.3)
    assert outcome.kind is OutcomeKind.TIMEOUT
    assert outcome.source_port > 0


def test_handshake_alone_is_no_answer_of_an_agent_but_enough_of_any_other_peer(loopback):
    with listener() as port:
        named = loopback.ask(TCP, port=port, timeout_s=0.3)
        loopback.hosts[Target.service("default", "kubernetes")] = "127.0.0.1"
        other = loopback.ask(TCP, port=port, timeout_s=0.3, target=Target.service("default", "kubernetes"))
    assert named.kind is OutcomeKind.INFRA_ERROR, "a hung agent must not look like a denial"
    assert "after the handshake" in named.detail
    assert (other.kind, other.answered_by) == (OutcomeKind.CONNECTED, "")
    assert other.elapsed_s < 0.3


@pytest.mark.parametrize("reset", [True, False])
def test_peer_that_hangs_up_before_its_name(loopback, reset):
    def hang_up(sock):
        peer, _ = sock.accept()
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()

    with listener(answer=hang_up) as port:
        outcome = loopback.ask(TCP, port=port)
    assert outcome.kind is OutcomeKind.RESET


def test_source_port_is_bound_and_can_be_used_again_at_once(loopback):
    with listener() as port:
        pass
    for protocol in (TCP, TCP, UDP, UDP):
        assert loopback.ask(protocol, source_port=port).source_port == port


def test_source_port_in_use_is_an_error_of_the_run(loopback):
    with listener() as port:
        outcome = loopback.ask(TCP, source_port=port)
    assert outcome.kind is OutcomeKind.INFRA_ERROR
    assert str(port) in outcome.detail


def test_no_route_is_unreachable(loopback):
    loopback.hosts[Target.pod("there", "server")] = "255.255.255.255"
    outcome = loopback.ask(TCP)
    assert outcome.kind is OutcomeKind.UNREACHABLE


def test_icmp_is_answered_or_says_what_the_pod_lacks(loopback):
    outcome = loopback.ask(ICMP)
    if outcome.kind is OutcomeKind.INFRA_ERROR:
        assert "ping_group_range" in outcome.detail
    else:
        assert (outcome.kind, outcome.source_port) == (OutcomeKind.CONNECTED, 0)


def test_protocol_the_kernel_lacks_is_an_error_of_the_run_or_refused(loopback):
    assert loopback.ask(SCTP, port=1).kind in {OutcomeKind.INFRA_ERROR, OutcomeKind.REFUSED}


def test_localhost_is_resolved_by_the_agent(loopback):
    outcome = loopback.ask(TCP, target=WORLD_NAME)
    assert (outcome.kind, outcome.answered_by) == (OutcomeKind.CONNECTED, loopback.name)


def dns_server(rcode, records=b"", count=0):
    def answer(sock):
        data, peer = sock.recvfrom(4096)
        end = data.index(b"\0", 12) + 5
        head = data[:2] + bytes([0x81, 0x80 | rcode]) + b"\0\1" + count.to_bytes(2, "big") + bytes(4)
        sock.sendto(b"\xff\xff not an answer to this question", peer)
        sock.sendto(head + data[12:end] + records, peer)

    return answer


def test_dns_answers_are_read(loopback):
    alias = b"\xc0\x0c\0\5\0\1\0\0\0\1\0\2\xc0\x0c"
    address = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4\x0a\1\2\3"
    with listener(socket.SOCK_DGRAM, dns_server(0, alias + address, 2)) as port:
        outcome = loopback.ask(DNS, port=port, name="one.example")
    assert (outcome.kind, outcome.rcode, outcome.connected) == (OutcomeKind.DNS, "NOERROR", True)
    assert outcome.detail == "one.example, 10.1.2.3"


@pytest.mark.parametrize(
    ("code", "name"), [(3, "NXDOMAIN"), (5, "REFUSED"), (2, "SERVFAIL"), (15, "RCODE15")]
)
def test_dns_response_codes_have_their_names(loopback, code, name):
    with listener(socket.SOCK_DGRAM, dns_server(code)) as port:
        outcome = loopback.ask(DNS, port=port, name="two.example")
    assert (outcome.kind, outcome.rcode, outcome.connected) == (OutcomeKind.DNS, name, False)


@pytest.mark.parametrize(
    ("name", "record", "rcode", "detail"),
    [
        ("one.zone.example", "A", "NOERROR", "10.1.1.1"),
        ("ONE.zone.example.", "AAAA", "NOERROR", "fd00::1"),
        ("one.zone.example", "TXT", "NOERROR", ""),
        ("two.zone.example", "A", "NXDOMAIN", ""),
        ("one.other.example", "A", "REFUSED", ""),
    ],
)
def test_dns_server(loopback, name, record, rcode, detail):
    outcome = loopback.ask(DNS, port=loopback.dns, name=name, record=record)
    assert (outcome.kind, outcome.rcode, outcome.detail) == (OutcomeKind.DNS, rcode, detail)


def test_zone():
    zone = Zone.parse(["*.w.example=10.0.0.1", "b.w.example=10.0.0.2", "b.w.example=10.0.0.3"])
    assert zone.look_up("any.w.example", 1) == (0, [bytes([10, 0, 0, 1])])
    assert len(zone.look_up("b.w.example", 1)[1]) == 2
    for junk in (b"", bytes(12), bytes(30), b"x" * 40, bytes(12) + b"\xc0\x0c" + bytes(9)):
        assert zone.answer(junk) is None
    inverse = bytes(2) + b"\x08\0\0\1" + bytes(6) + b"\1b\0\0\1\0\1"
    assert zone.answer(inverse)[3] & 15 == 4
    for wrong in ("b.w.example", "b.w.example=here"):
        with pytest.raises(ValueError, match=r"NAME=ADDRESS|address"):
            Zone.parse([wrong])


def test_ready_says_no_when_nothing_serves(start):
    waiting = start("ready", "--timeout", "0.1", name="there/nobody")
    waiting.communicate()
    assert waiting.returncode == 1


def test_ready_can_be_asked_as_often_as_one_likes(loopback):
    """A kept cluster's agents outside are asked by every run; whoever asks must not fill a queue."""
    assert {ready(loopback.name, timeout_s=2.0) for _ in range(60)} == {0}


def test_ready_gives_up_where_nobody_opens_the_door():
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.bind(door("there/deaf"))
        deaf.listen(0)
        codes = [ready("there/deaf", timeout_s=0.2) for _ in range(3)]
    assert codes[-1] == 1


def test_malformed_dns_answers_and_questions_are_errors_of_the_run(loopback):
    with listener(socket.SOCK_DGRAM, dns_server(0, b"\xc0", 7)) as port:
        assert loopback.ask(DNS, port=port, name="three.example").kind is OutcomeKind.INFRA_ERROR
    for name, record in (("x" * 70 + ".example", "A"), ("a..example", "A"), ("a.example", "NOPE")):
        assert loopback.ask(DNS, name=name, record=record).kind is OutcomeKind.INFRA_ERROR


def test_loop_of_compressed_names_ends():
    loop = bytes(4) + b"\0\1\0\0" + bytes(4) + b"\xc0\x0c" + bytes(4)
    with pytest.raises(ValueError, match="loop"):
        answers(loop)
    assert RECORDS["AAAA"] == 28


def test_one_batch_of_a_thousand_probes_is_concurrent(loopback):
    with listener(socket.SOCK_DGRAM) as silent:
        batch = [loopback.probe(TCP, id=f"a{n}", timeout_s=5.0) for n in range(700)]
        batch += [loopback.probe(UDP, id=f"d{n}", port=silent, timeout_s=0.5) for n in range(300)]
        before = time.monotonic()
        outcomes = loopback.client.run(batch)
    assert time.monotonic() - before < 10
    assert [o.probe_id for o in outcomes] == [p.id for p in batch]
    assert {o.kind for o in outcomes[:700]} == {OutcomeKind.CONNECTED}
    assert {o.kind for o in outcomes[700:]} == {OutcomeKind.TIMEOUT}


def test_batches_overlap_and_bad_lines_are_answered(loopback):
    loopback.client.run([loopback.probe(TCP)])
    stream = loopback.streams[0]
    with listener(socket.SOCK_DGRAM) as silent:
        slow = {"protocol": "udp", "host": "127.0.0.1", "port": silent, "timeout": 0.5}
        fast = {"protocol": "tcp", "host": "127.0.0.1", "port": loopback.port, "timeout": 2}
        for number, spec in ((71, slow), (72, fast), (73, {"protocol": "smoke"}), (74, {})):
            stream.send_line(json.dumps({"v": 1, "id": number, "probes": [spec]}))
        stream.send_line("garbage")
        stream.send_line('{"v": 2, "id": 75, "probes": []}')
        answers = [json.loads(stream.read_line(timeout_s=5)) for _ in range(6)]
    by_id = {a["id"]: a for a in answers}
    assert answers[-1]["id"] == 71
    assert by_id[72]["outcomes"][0]["kind"] == "connected"
    assert by_id[73]["outcomes"][0]["kind"] == by_id[74]["outcomes"][0]["kind"] == "infra_error"
    assert "malformed" in by_id[None]["error"]
    assert "version" in by_id[75]["error"]


def test_batches_under_way_are_answered_when_the_input_ends(loopback):
    loopback.client.run([loopback.probe(TCP)])
    stream = loopback.streams[0]
    with listener(socket.SOCK_DGRAM) as silent:
        spec = {"protocol": "udp", "host": "127.0.0.1", "port": silent, "timeout": 0.3}
        stream.send_line(json.dumps({"v": 1, "id": 9, "probes": [spec]}))
        stream.process.stdin.close()
        assert json.loads(stream.read_line(timeout_s=5))["id"] == 9
    assert stream.read_line(timeout_s=5) is None
    assert stream.process.wait(timeout=5) == 0


def test_http_server_survives_what_is_no_request(loopback):
    for junk in (b"\r\n\r\n", b"GET /status/x HTTP/1.1\r\n\r\n", b"x" * 200_000):
        with (
            closing(socket.create_connection(("127.0.0.1", loopback.http), timeout=5)) as sock,
            suppress(OSError),  # it may hang up at any point
        ):
            sock.sendall(junk)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
    assert loopback.ask(HTTP, method="HEAD").status == 200


def test_the_agent_runs_from_its_files_alone(tmp_path):
    folder = tmp_path / "agent"
    folder.mkdir()
    for name, text in agent_files().items():
        (folder / name).write_text(text)
    run = subprocess.run(
        [sys.executable, "-m", "agent", "--name", "a/b", "batch"],
        input='{"v":1,"id":1,"probes":[]}\n',
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    hello, answer = map(json.loads, run.stdout.splitlines())
    assert (hello["hello"], answer["outcomes"], run.stderr) == ("a/b", [], "")


def test_the_agent_needs_only_the_standard_library_and_an_old_python():
    folder = Path(cilium_e2e.probe.agent.__file__).parent
    for name, text in agent_files().items():
        tree = ast.parse(text, feature_version=(3, 9))
        assert text == (folder / name).read_text()
        for node in ast.walk(tree):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module]
            assert {n.split(".")[0] for n in names} <= sys.stdlib_module_names
    assert set(agent_files()) >= {"__init__.py", "__main__.py", "batch.py", "responder.py"}
