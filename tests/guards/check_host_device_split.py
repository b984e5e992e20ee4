# SPDX-License-Identifier: Apache-2.0
"""Names tell the compiler. Only *_device.hpp, .cu and .hip hold what a host compiler does not know; host sources reach
them only through launch files."""

import fnmatch
import os
import re

import common

# attributes.hpp makes XD_FN of them; launch files of a GPU wrap bodies into kernels.
DEVICE_FILES = [
    "*_device.hpp",
    "*.cu",
    "*.cu.in",
    "*.hip",
    "src/platform/attributes.hpp",
    "src/kernels/launch/launch_cuda*",
    "src/kernels/launch/launch_hip*",
]
LAUNCH_FILES = "src/kernels/launch/launch_*"
DEVICE_WORDS = re.compile(
    r"\b(__device__|__global__|__shared__|__host__|__constant__|__launch_bounds__|__syncthreads|"
    r"threadIdx|blockIdx|blockDim|gridDim|__builtin_amdgcn_\w+|__nvvm_\w+|__hip_atomic_\w+)\b|<<<"
)
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def is_device_file(path):
    return any(fnmatch.fnmatch(path, pattern) for pattern in DEVICE_FILES)


def device_words(path, text):
    if is_device_file(path):
        return []
    lines = common.without_comments(text).split("\n")
    return [
        f"{path}:{number}: `{match.group(0)}` belongs in a *_device.hpp or .cu file"
        for number, line in enumerate(lines, 1)
        for match in [DEVICE_WORDS.search(line)]
        if match
    ]


def includes(path, texts):
    for target in INCLUDE.findall(common.without_comments(texts[path], strings=False)):
        for candidate in ("src/" + target, "include/" + target, os.path.normpath(os.path.join(os.path.dirname(path), target))):
            if candidate in texts:
                yield candidate
                break


def way_to_device(path, texts):
    """Files from a host source down to the first device header that it reaches, or None."""
    ways, seen = [[path]], {path}
    while ways:
        way = ways.pop(0)
        for target in includes(way[-1], texts):
            if target.endswith("_device.hpp"):
                return [*way, target]
            if target not in seen:
                seen.add(target)
                ways.append([*way, target])
    return None


def check(texts):
    problems = []
    for path, text in texts.items():
        problems += device_words(path, text)
        if path.endswith(".cpp") and not fnmatch.fnmatch(path, LAUNCH_FILES):
            way = way_to_device(path, texts)
            problems += [f"{path}: reaches a device header: {' -> '.join(way)}"] if way else []
    return problems


def self_test():
    texts = {
        "src/a.hpp": '#include "k_device.hpp"\n',
        "src/k_device.hpp": "__device__ int f();\n",
        "src/op/x.cpp": '#include "a.hpp"\n',
        "src/kernels/launch/launch_cpu.cpp": '#include "a.hpp"\n',
        "src/op/y.cpp": "// __device__ is not a word here\n",
        "src/op/z.hpp": "int i = threadIdx.x;\n",
    }
    found = check(texts)
    assert len(found) == 2 and "src/op/x.cpp" in found[0] and "src/op/z.hpp:1" in found[1], found


def main():
    self_test()
    root = common.repository_root()
    texts = {path: common.read(root, path) for path in common.files(root, ["src", "include"], common.CPP_ENDINGS)}
    common.finish("host/device split", check(texts), f"{len(texts)} files")


if __name__ == "__main__":
    main()
