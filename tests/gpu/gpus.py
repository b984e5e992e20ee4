# SPDX-License-Identifier: Apache-2.0
"""Which GPUs this host has, and what differs between the vendors for `./dev gpu`. As a program: prints the backend.

usage: gpus.py"""

import collections
import glob
import os
import re
import subprocess
import sys

# backend, variable that lists the devices of a process, how many hardware queues a process may have, and what a name of a GPU
# says beside its model
Vendor = collections.namedtuple("Vendor", "backend visible queues chatter")
VENDORS = [
    Vendor("cuda", "CUDA_VISIBLE_DEVICES", {"CUDA_DEVICE_MAX_CONNECTIONS": "32"}, r"nvidia"),
    Vendor("hip", "HIP_VISIBLE_DEVICES", {"GPU_MAX_HW_QUEUES": "16"}, r"amd|instinct|radeon|oam|vf"),
]
TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"  # what AMD's kernel driver says


def vendor_of(backend):
    return next((v for v in VENDORS if v.backend == backend), Vendor(backend, "CUDA_VISIBLE_DEVICES", {}, r""))


def _output(*command):
    env = {**os.environ, "PATH": os.environ.get("PATH", "") + ":/opt/rocm/bin"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=env)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""


def nvidia_names():
    return _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader").splitlines()


def amd_names(topology=TOPOLOGY):
    names = []
    for agent in re.split(r"^\*+\s*$\s*^Agent \d+\s*$", _output("rocminfo"), flags=re.MULTILINE):
        if re.search(r"^\s*Device Type:\s*GPU\s*$", agent, re.MULTILINE):
            marketing, name = (re.search(rf"^\s*{what}:[ \t]*(\S.*?)\s*$", agent, re.MULTILINE) for what in ("Marketing Name", "Name"))
            names.append((marketing or name).group(1) if marketing or name else "AMD GPU")
    return names or _names_of_driver(topology)


def _names_of_driver(topology):
    """gfx942 and the like, where there is no rocminfo."""
    names = []
    for properties in sorted(glob.glob(os.path.join(topology, "*", "properties"))):
        with open(properties, encoding="utf-8") as f:
            version = int((re.search(r"^gfx_target_version (\d+)$", f.read(), re.MULTILINE) or [0, "0"])[1])
        if version:  # a CPU has 0
            names.append(f"gfx{version // 10000}{version // 100 % 100:x}{version % 100:x}")
    return names


def names_of(backend):
    return {"cuda": nvidia_names, "hip": amd_names}.get(backend, list)()


def visible_to_caller(backend, count):
    """What names the GPUs that the caller may use, in its own order: what its environment lists, else all `count`."""
    listed = os.environ.get(vendor_of(backend).visible)
    if listed is None:
        return [str(gpu) for gpu in range(count)]
    names = [name.strip() for name in listed.split(",")]
    return names[: next((i for i, name in enumerate(names) if name in ("", "-1")), len(names))]


def backend_here():
    """The first vendor whose GPUs are here; None."""
    return next((v.backend for v in VENDORS if names_of(v.backend)), None)


def model_of(backend, name):
    """h200, mi300x: how baselines call a GPU."""
    words = [w for w in re.split(r"[^a-z0-9]+", name.lower()) if w and not re.fullmatch(vendor_of(backend).chatter, w)]
    return "".join(words)


if __name__ == "__main__":
    found = backend_here()
    print(found or "neither nvidia-smi nor rocminfo, nor AMD's kernel driver, knows a GPU")
    sys.exit(0 if found else 1)
