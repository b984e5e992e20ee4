# SPDX-License-Identifier: Apache-2.0
"""Reads what ptxas said when the library's kernels were compiled (keep_output.py keeps it beside each object): no kernel of one
NVIDIA architecture may spill to memory, and every instance must be there. Prints registers and shared memory by kernel. The
check is then run once more on spoiled input and must object. (AMD: check_amd.py.)

usage: check_bodies.py --arch sm_90 --root REPOSITORY --report FILE.jsonl -- OBJECT..."""

import argparse
import json
import os
import re
import sys

from kernel_names import check_names, expected_names

# Of a mangled kernel, its body; what is compiled once for each row of instances.def has the row in the name of its object.
BODIES = {
    "ExpertRowsLatencyBody": "expert_rows_latency",
    "ExpertRowsBody": "expert_rows",
    "DispatchLlBody": "dispatch_ll",
    "DispatchLatencyBody": "dispatch_latency",
    "DispatchBody": "dispatch",
    "CombineLlBody": "{ll}_ll",
    "CombineBodyILb1E": "{row}_by_expert",
    "CombineBodyILb0E": "{row}",
}


def name_of(mangled, object_name):
    """combine_bf16_none of a kernel in combine_bf16_none.cu.o."""
    row = object_name.split(".")[0]
    for body, name in BODIES.items():
        if body in mangled:
            return name.format(row=row, ll=row.removesuffix("_none"))
    return mangled


def resources_of(said, arch, object_name):
    """One dict per kernel from `ptxas -v`."""
    kernels = []
    for block in re.split(r"Compiling entry function '", said)[1:]:
        mangled, for_arch = re.match(r"(\w+)' for '(\w+)'", block).groups()

        def number(pattern, block=block):
            return int((re.search(pattern, block) or [0, 0])[1])

        if for_arch == arch:
            kernels.append(
                {
                    "kernel": name_of(mangled, object_name),
                    "registers": number(r"Used (\d+) registers"),
                    "shared": number(r"(\d+) bytes smem"),
                    "stack": number(r"(\d+) bytes stack frame"),
                    "spills": number(r"(\d+) bytes spill stores") + number(r"(\d+) bytes spill loads"),
                }
            )
    return kernels


def problems_of(kernels, expected):
    problems = [f"{k['kernel']}: spills {k['spills']}" for k in kernels if k["spills"]]
    problems += [f"{k['kernel']}: ptxas names no registers" for k in kernels if not k["registers"]]
    return problems + list(check_names([k["kernel"] for k in kernels], expected))


def blind_to(kernels, expected):
    """What spoiled input the check would let pass."""
    spoiled = {
        "a spill": [kernels[0] | {"spills": 8}, *kernels[1:]],
        "a missing kernel": kernels[1:],
        "a kernel of no name": [*kernels, kernels[0] | {"kernel": "other"}],
        "no registers": [kernels[0] | {"registers": 0}, *kernels[1:]],
    }
    return [f"the check lets {what} pass" for what, wrong in spoiled.items() if not problems_of(wrong, expected)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--arch", "--root", "--report"):
        parser.add_argument(name, required=True)
    parser.add_argument("objects", nargs="*")
    args = parser.parse_args()
    kernels = []
    for path in args.objects:
        if not os.path.exists(path + ".txt"):
            sys.exit(f"{path}.txt is not there: build crossdock_objects first, with nvcc")
        with open(path + ".txt", encoding="utf-8") as f:
            kernels += resources_of(f.read(), args.arch, os.path.basename(path))
    if not kernels:
        sys.exit(f"no kernel was compiled for {args.arch}; `./dev test` installs nvcc")
    expected = expected_names(args.root)
    columns = list(kernels[0])[1:]
    print(f"{args.arch:44}" + "".join(f"{c:>18}" for c in columns))
    for k in kernels:
        print(f"{k['kernel']:44}" + "".join(f"{k[c]:18}" for c in columns))
    with open(args.report, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"arch": args.arch, **k}) + "\n" for k in kernels)
    problems = problems_of(kernels, expected) + blind_to(kernels, expected)
    print("\n".join([*problems, f"{args.arch}: {len(kernels)} kernels, {len(problems)} problem(s)"]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
