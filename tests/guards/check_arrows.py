# SPDX-License-Identifier: Apache-2.0
"""Arrows point down: reads every #include against the table of rooms below and names each that does not fit."""

import fnmatch
import os
import re

import common

# Marks and lists without code of their own: any room of src may include them.
LEAVES = ["crossdock/lists.h", "crossdock/retired_names.h", "crossdock/types.hpp", "platform/attributes.hpp"]
MACHINE = ["platform/*.hpp"]  # the vocabulary, not a twin folder: `*` does not cross a slash here
RAISE = ["crossdock/error.hpp"]

KERNEL_PARTS = [
    "types/*",
    *MACHINE,
    "route/*",
    "layout/*",
    "codec/*",
    "wire/*",
    "sync/*",
    "memory/peers.hpp",
    "memory/regions.hpp",
    "crossdock/exchange.hpp",
]
# room -> what it may include besides its own files, its LEAVES and the standard library.
SRC = {
    "types": [],
    "route": ["types/*"],
    "layout": ["types/*"],
    "tuning": ["types/*", *MACHINE, *RAISE],
    "platform": ["types/*", *RAISE],
    "platform/system": ["types/*", *MACHINE, *RAISE],
    "platform/cpu": ["types/*", *MACHINE, *RAISE, "platform/system/*", "crossdock/cpu_stream.hpp"],
    "platform/cuda": ["types/*", *MACHINE, *RAISE],
    "platform/hip": ["types/*", *MACHINE, *RAISE],
    "codec": ["types/*", *MACHINE],
    "sync": ["types/*", *MACHINE],
    "memory": ["types/*", *MACHINE, "platform/system/*", *RAISE, "crossdock/config.hpp", "crossdock/exchange.hpp", "crossdock/group.hpp"],
    "wire": ["types/*", *MACHINE, "memory/peers.hpp"],
    "kernels/common": KERNEL_PARTS,
    "kernels/dispatch": [*KERNEL_PARTS, "kernels/common/*"],
    "kernels/expert_rows": [*KERNEL_PARTS, "kernels/common/*"],
    "kernels/combine": [*KERNEL_PARTS, "kernels/common/*"],
    "kernels/launch": ["types/*", *MACHINE, "memory/regions.hpp", "kernels/*/*"],
    "op": [
        "types/*",
        *MACHINE,
        "platform/system/*",
        "memory/*",
        "tuning/*",
        "route/*",
        "layout/*",
        "codec/*",
        "sync/*",
        "kernels/*/*",
        "crossdock/*",
    ],
}
# Files where the machines meet: launch files join the bodies with one, platform itself lists them all.
JOINTS = {"src/kernels/launch/*": ["platform/*/*", *RAISE], "src/platform/*.cpp": ["platform/*/*"]}
GENERATED = {"built_machines.def", "built_instances.def"}  # by src/CMakeLists.txt
OUTSIDE = {
    "include": ["crossdock/*"],
    "oracle": ["crossdock/types.hpp", "crossdock/lists.h", "oracle/*"],
    "examples": ["crossdock/*"],
    "tools": ["crossdock/*", "oracle/*"],
    "bench": ["crossdock/*", "oracle/*"],
    "python": ["crossdock/*"],
}
# room of tools -> what it may include besides its own files and the area's.
TOOLS = {
    "": ["command/*"],
    "command": [],
    "machine": ["command/*"],
    "gpu": ["command/*", "machine/*"],
    "cuda": ["gpu/*", "machine/*"],
    "hip": ["gpu/*", "machine/*"],
    "ranks": ["machine/*"],
    "problem": ["command/*", "machine/*", "ranks/*"],
    "jobs": ["command/*", "machine/*", "ranks/*", "problem/*"],
    "layer": ["command/*", "machine/*", "ranks/*", "problem/*"],
    "report": ["command/*", "machine/*", "problem/*", "jobs/*"],
    "verbs": ["command/*", "machine/*", "ranks/*", "problem/*", "jobs/*", "layer/*", "report/*"],
}
FREE = ("tools", "bench", "examples", "python")  # may use libraries of theirs
# Rooms that speak to the operating system or a driver; the others use the standard library only.
SYSTEM_HEADERS = {"platform", "platform/system", "platform/cpu", "platform/cuda", "platform/hip", "memory", "op"}
# Headers of a vendor, by how they start, and the only files that may include them.
VENDOR = {
    "cuda": ("src/platform/cuda/", "src/kernels/launch/launch_cuda", "tools/cuda/"),
    "nv": ("src/platform/cuda/",),
    "hip": ("src/platform/hip/", "src/kernels/launch/launch_hip", "tools/hip/"),
    "rocm": ("src/platform/hip/",),
}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def room_of(path):
    """(area, room) of a file: ("src", "platform/cpu"), ("oracle", "oracle"), ... or None where there are no rules."""
    parts = path.split("/")
    if parts[0] == "tools":
        return ("tools", parts[1] if len(parts) > 2 else "")
    if parts[0] != "src":
        return (parts[0], parts[0]) if parts[0] in OUTSIDE else None
    room = parts[1] if len(parts) > 2 else ""
    if room in ("platform", "kernels") and len(parts) > 3:
        room += "/" + parts[2]
    return ("src", room)


def fits(path, pattern):
    return path.count("/") == pattern.count("/") and fnmatch.fnmatch(path, pattern)


def why_not(path, quote, target, exists):
    """The reason why `path` may not include `target`, or None. exists(p): whether the repository has file p."""
    area, room = room_of(path)
    beside = os.path.normpath(os.path.join(os.path.dirname(path), target))
    if quote == '"' and exists(beside):
        for base in ("src/", "include/", "tools/"):
            beside = beside.removeprefix(base)
        target = beside
    known = [f"{base}{target}" for base in ("include/", "src/", "", *(["tools/"] if area == "tools" else [])) if exists(base + target)]
    if quote == "<" and not known:
        return why_not_system(path, area, room, target)
    if not known and (area in FREE or target in GENERATED):
        return None  # a library of theirs
    if not known:
        return "no such file in the repository"
    if area != "src":
        if room not in (TOOLS if area == "tools" else [area]):
            return f"{area} has no room `{room}`"
        own = room_of(known[0]) == (area, room)
        allowed = OUTSIDE[area] + (TOOLS[room] if area == "tools" else [])
        return None if own or any(fits(target, p) for p in allowed) else f"{room or area} may include {allowed}"
    if room not in SRC:
        return f"src has no room `{room}`"
    allowed = LEAVES + SRC[room]
    for joint, more in JOINTS.items():
        allowed = allowed + more if fits(path, joint) else allowed
    if room_of(known[0]) == (area, room) or any(fits(target, p) for p in allowed):
        return None
    return f"room {room} may include {allowed}"


def why_not_system(path, area, room, target):
    for start, homes in VENDOR.items():
        if target.startswith(start):
            return None if path.startswith(homes) else f"headers of {start}* belong to {homes}"
    is_standard = re.fullmatch(r"[a-z_0-9]+", target) or target in ("stdint.h", "stddef.h", "stdbool.h")
    if is_standard or area in FREE or (area == "src" and room in SYSTEM_HEADERS):
        return None
    return f"{room or area} uses the standard library only"


def check(path, text, exists):
    problems = []
    for number, line in enumerate(common.without_comments(text, strings=False).split("\n"), 1):
        match = INCLUDE.match(line)
        reason = match and why_not(path, match.group(1), match.group(2), exists)
        if reason:
            problems.append(f"{path}:{number}: includes {match.group(2)}: {reason}")
    return problems


def self_test():
    present = {
        "src/op/a.hpp",
        "src/types/shape.hpp",
        "src/memory/peers.hpp",
        "src/memory/heap.hpp",
        "src/wire/put.hpp",
        "src/platform/machine.hpp",
        "src/platform/cpu/scalar.hpp",
        "src/platform/system/fd.hpp",
        "include/crossdock/types.hpp",
        "include/crossdock/group.hpp",
        "src/route/r.hpp",
        "src/layout/l.hpp",
        "oracle/answer.hpp",
        "tools/command/flags.hpp",
        "tools/verbs/bench.hpp",
    }
    bad = [
        ("src/types/shape.hpp", '"op/a.hpp"'),
        ("src/route/r.hpp", '"layout/l.hpp"'),
        ("src/wire/put.hpp", '"memory/heap.hpp"'),
        ("src/kernels/body.hpp", '"platform/cpu/scalar.hpp"'),
        ("oracle/answer.cpp", '"types/shape.hpp"'),
        ("src/codec/c.hpp", "<cuda_fp8.h>"),
        ("src/route/r.hpp", "<unistd.h>"),
        ("src/op/a.cpp", '"op/missing.hpp"'),
        ("tools/main.cpp", '"op/a.hpp"'),
        ("tools/command/text.cpp", '"verbs/bench.hpp"'),
        ("tools/new/a.cpp", '"command/flags.hpp"'),
        ("src/memory/heap.hpp", '"platform/cpu/scalar.hpp"'),
        ("src/platform/system/fd.hpp", '"platform/cpu/scalar.hpp"'),
        ("src/route/r.hpp", '"../op/a.hpp"'),
        ("src/types/shape.hpp", '"crossdock/group.hpp"'),
    ]
    good = [
        ("src/op/a.cpp", '"op/a.hpp"'),
        ("src/wire/put.hpp", '"memory/peers.hpp"'),
        ("src/op/a.cpp", "<sys/mman.h>"),
        ("src/kernels/launch/launch_cpu.cpp", '"platform/cpu/scalar.hpp"'),
        ("src/codec/c.hpp", '"platform/machine.hpp"'),
        ("oracle/answer.cpp", '"oracle/answer.hpp"'),
        ("src/route/r.hpp", "<cstdint>"),
        ("tools/main.cpp", "<CLI/CLI.hpp>"),
        ("tools/main.cpp", '"command/flags.hpp"'),
        ("tools/verbs/bench.cpp", '"command/flags.hpp"'),
        ("src/memory/heap.hpp", '"platform/system/fd.hpp"'),
        ("src/platform/cuda/m_device.hpp", "<cuda_runtime.h>"),
    ]
    for path, include in bad:
        assert check(path, f"// one\n#include {include}\n", present.__contains__), f"missed: {path} {include}"
    for path, include in good:
        assert not check(path, f"#include {include}\n", present.__contains__), f"refused: {path} {include}"
    assert not check("src/types/shape.hpp", '// #include "op/a.hpp"\n', present.__contains__)


def main():
    self_test()
    root = common.repository_root()
    sources = [f for f in common.files(root, ["src", *OUTSIDE], common.CPP_ENDINGS) if room_of(f)]
    problems = []
    for path in sources:
        problems += check(path, common.read(root, path), lambda p: os.path.isfile(os.path.join(root, p)))
    common.finish("arrows", problems, f"{len(sources)} files")


if __name__ == "__main__":
    main()
