"""The resident agent of a probed pod: standard library only, Python 3.9 or later.

It reaches its container as a ConfigMap and runs as ``python3 -m agent`` in a stock Python image, without
root, capabilities or a writable file system. ``serve`` is the container's main process and answers probes
with the agent's name. ``batch`` is started beside it over an exec stream: one JSON line in is a batch of
probes, one JSON line out holds their outcomes, in order (:mod:`cilium_e2e.probe.protocol` is the other
end). ``once`` does the same for one line given as an argument. ``ready`` exits 0 once ``serve`` listens.

Inside this package imports are relative: here it is ``cilium_e2e.probe.agent``, in a container ``agent``.
"""

VERSION = 1
CONCURRENT = 512
BANNER = "cilium-e2e-agent/1"
