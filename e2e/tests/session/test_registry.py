"""Whose cluster is whose: records, and locks that outlive no process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from cilium_e2e.model import EXIT_USAGE, BackendUnavailable
from cilium_e2e.session.registry import Record, Registry

HOLDER = """\
import sys
from pathlib import Path
from cilium_e2e.session.registry import Record, Registry

registry = Registry(Path(sys.argv[1]))
with registry.claim(sys.argv[2]):
    registry.write(Record(sys.argv[2], "default", "", keep=False, handle={}))
    print("claimed", flush=True)
    sys.stdin.read()
"""


def record(name, *, engine="", keep=False, **handle):
    return Record(name, "default", engine, keep, handle)


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "state")


@contextmanager
def holder(registry, name):
    """Another process that owns a cluster until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(registry._folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "claimed\n"
            yield process
        finally:
            process.kill()


class TestRecords:
    def test_none(self, registry):
        assert registry.records() == []
        assert registry.find("a") is None

    def test_what_is_written_is_read(self, registry):
        written = [record("b", engine="tcp://x:1", keep=True, kubeconfig="/k", nodes=["n"]), record("a")]
        for one in written:
            registry.write(one)
        assert registry.records() == written[::-1]
        assert registry.find("b") == written[0]

    def test_a_record_is_replaced(self, registry):
        registry.write(record("a"))
        registry.write(record("a", keep=True))
        assert registry.records() == [record("a", keep=True)]

    def test_what_is_forgotten_is_gone_and_others_stay(self, registry):
        registry.write(record("a"))
        registry.write(record("ab"))
        registry._part("a").touch()
        registry.forget("a")
        registry.forget("a")
        assert [file.name for file in registry._folder.iterdir()] == ["ab.cluster.json"]

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"[]",
            b"17",
            b"null",
            b'{"name": "a"}',
            b'{"name": "a", "topology": "", "engine": "", "keep": false, "handle": {}, "more": 1}',
            b'{"name": "a", "topology": "", "engine": "", "keep": false, "handle": null}',
            b'{"name": ["a"], "topology": "", "engine": "", "keep": false, "handle": {}}',
            # Somebody else's name in our file: what is swept goes by that name.
            b'{"name": "other", "topology": "", "engine": "", "keep": false, "handle": {}}',
            b'{"name": "../other", "topology": "", "engine": "", "keep": false, "handle": {}}',
        ],
    )
    def test_an_unreadable_one_is_no_record_and_hides_no_other(self, registry, content):
        registry.write(record("z"))
        (registry._folder / "a.cluster.json").write_bytes(content)
        assert registry.records() == [record("z")]
        assert registry.find("a") is None
        assert registry.left_over("") == [record("z")]

    def test_one_that_is_no_file(self, registry):
        (registry._folder / "a.cluster.json").mkdir(parents=True)
        assert registry.records() == []

    def test_readers_never_see_half_a_record(self, registry):
        registry.write(record("a", text="x" * 100_000))
        done = threading.Event()

        def rewrite():
            for number in range(100):
                registry.write(record("a", text=str(number) * 100_000))
            done.set()

        writer = threading.Thread(target=rewrite)
        writer.start()
        while not done.is_set():
            assert len(registry.records()) == 1
        writer.join()


class TestClaim:
    def test_two_names_do_not_meet(self, registry):
        with registry.claim("a"), registry.claim("b"):
            assert registry.owned("a")
            assert registry.owned("b")
            assert not registry.owned("c")

    def test_the_same_name_in_the_same_process(self, registry):
        with (
            registry.claim("a"),
            pytest.raises(BackendUnavailable, match="another run is using this cluster"),
            Registry(registry._folder).claim("a"),
        ):
            pytest.fail("claimed twice")

    def test_another_process_is_kept_out_until_it_is_killed(self, registry):
        """Nothing of ours runs when SIGKILL comes; the kernel lets go of the lock."""
        with holder(registry, "a") as process:
            with pytest.raises(BackendUnavailable) as caught, registry.claim("a"):
                pytest.fail("claimed twice")
            assert caught.value.exit_code == EXIT_USAGE
            assert str(caught.value) == (
                "cluster a: another run is using this cluster. "
                "Wait until it has ended, or choose another name."
            )
            assert registry.owned("a")
            assert registry.left_over("") == []
            with registry.claim("b"):
                pass
            process.send_signal(signal.SIGKILL)
            assert process.wait(timeout=10) == -signal.SIGKILL
            assert not registry.owned("a")
            assert registry.left_over("") == [record("a")]
            with registry.claim("a"):
                assert registry.owned("a")

    def test_one_that_ended_by_itself_left_its_record_to_be_swept(self, registry):
        with holder(registry, "a") as process:
            process.stdin.close()
            assert process.wait(timeout=10) == 0
            assert registry.left_over("") == [record("a")]

    def test_a_cluster_that_is_gone_leaves_no_lock_file(self, registry):
        with registry.claim("a"):
            registry.write(record("a"))
            registry.forget("a")
        assert list(registry._folder.iterdir()) == []

    def test_one_that_stays_can_be_claimed_again(self, registry):
        for _ in range(3):
            with registry.claim("a"):
                registry.write(record("a", keep=True))
        assert not registry.owned("a")

    def test_an_error_gives_the_name_back(self, registry):
        with pytest.raises(ValueError, match="x"), registry.claim("a"):
            raise ValueError("x")
        assert not registry.owned("a")

    def test_whoever_asks_for_a_moment_keeps_nobody_out(self, registry):
        """``clusters list`` in the very moment in which a run begins."""
        peek = registry._lock("a")
        peek.acquire()
        timer = threading.Timer(0.05, peek.release)
        timer.start()
        with registry.claim("a"):
            assert registry.owned("a")
        timer.join()

    def test_only_one_of_many_gets_it(self, registry):
        met, won, lost = threading.Barrier(8), [], []
        ended = threading.Barrier(8)

        def run(number):
            mine = Registry(registry._folder)
            met.wait(timeout=10)
            try:
                with mine.claim("a"):
                    won.append(number)
                    ended.wait(timeout=10)
            except BackendUnavailable:
                lost.append(number)
                ended.wait(timeout=10)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert (len(won), len(lost)) == (1, 7)


class TestLeftOver:
    def test_what_is_kept_owned_or_elsewhere_is_not(self, registry):
        registry.write(record("dead"))
        registry.write(record("kept", keep=True))
        registry.write(record("elsewhere", engine="tcp://x:1"))
        registry.write(record("alive"))
        with registry.claim("alive"):
            assert registry.left_over("") == [record("dead")]
            assert registry.left_over("tcp://x:1") == [record("elsewhere", engine="tcp://x:1")]

    def test_a_file_of_another_kind_is_none(self, registry):
        registry.write(record("a"))
        (registry._folder / "a.timeline.json").write_text(json.dumps({"name": "a"}))
        assert [one.name for one in registry.left_over("")] == ["a"]
