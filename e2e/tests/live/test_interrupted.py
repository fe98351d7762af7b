"""A run that is interrupted leaves nothing behind, whatever it was doing. Needs a container engine.

Runs only where the machine's own options for ``cilium-e2e run`` are given::

    CILIUM_E2E_LIVE="--topology cgroup-v1 --node-image ..." pytest e2e/tests/live
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import time

import pytest

from cilium_e2e.session import install
from cilium_e2e.session.options import default_state
from cilium_e2e.session.registry import Registry

pytestmark = [
    pytest.mark.live,
    pytest.mark.timeout(600),
    pytest.mark.skipif("CILIUM_E2E_LIVE" not in os.environ, reason="CILIUM_E2E_LIVE is not set"),
]

NAME = "ce2e-interrupted"
# What the run says when a phase begins; "created" is what xdist says when the suites do.
PHASES = {
    "create": f"{install.CREATE} …",
    "load": f"{install.CILIUM_IMAGES} …",
    "Flux": f"{install.FLUX} …",
    "reconcile": f"{install.RELEASE} …",
    "suites": "created: ",
}
# Long enough for the phase to be in full swing.
INTO_THE_PHASE_S = 1.5


def run(name=NAME):
    words = shlex.split(os.environ["CILIUM_E2E_LIVE"])
    return subprocess.Popen(
        [sys.executable, "-m", "cilium_e2e.cli", "run", "--backend", "kind", "--cluster-name", name, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def until(process, text, *, deadline_s=400):
    """Read the run's output up to a line that holds the text; then keep reading in the background."""
    seen = []
    end = time.monotonic() + deadline_s
    for line in process.stdout:
        seen.append(line)
        if text in line:
            rest = threading.Thread(target=lambda: seen.extend(process.stdout), daemon=True)
            rest.start()
            return seen
        assert time.monotonic() < end, "".join(seen)
    pytest.fail(f"the run ended before it said {text!r}:\n{''.join(seen)}")


def left(name=NAME):
    """Containers, volumes, files and processes that speak of the cluster."""
    containers = docker("ps", "--all", "--format", "{{.Names}}")
    found = [f"container {line}" for line in containers if line.startswith(name)]
    found += [f"file {file}" for file in default_state().glob(f"{name}*")]
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    mine = re.compile(rf"(kind|cilium_e2e).*{name}")
    found += [f"process {line}" for line in processes.splitlines() if mine.search(line)]
    return found


def docker(*words):
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.fixture(autouse=True)
def clean():
    """No volume more than before, and nothing of this name before or after."""
    volumes = set(docker("volume", "ls", "--quiet"))
    assert left() == []
    yield
    subprocess.run([sys.executable, "-m", "cilium_e2e.cli", "clusters", "sweep"], check=False)
    new = set(docker("volume", "ls", "--quiet")) - volumes
    assert not new, f"volumes left: {new}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
@pytest.mark.parametrize("phase", PHASES)
def test_nothing_is_left_behind(phase, number):
    with run() as process:
        seen = until(process, PHASES[phase])
        time.sleep(INTO_THE_PHASE_S)
        process.send_signal(number)
        code = process.wait(timeout=120)
    assert code == 2, "".join(seen)
    assert left() == [], "".join(seen)


def test_what_sigkill_leaves_is_swept_by_the_next_run():
    with run() as process:
        until(process, PHASES["load"])
        process.kill()
        process.wait(timeout=30)
    assert any(line.startswith("container") for line in left())
    assert [r.name for r in Registry(default_state()).left_over(os.environ.get("DOCKER_HOST", ""))] == [NAME]
    with run(f"{NAME}-next") as process:
        seen = until(process, PHASES["create"])
        assert any(f"sweeping cluster {NAME}" in line for line in seen), "".join(seen)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=120)
    assert left() == []
