# SPDX-License-Identifier: Apache-2.0
"""Compiles every kernel body for one NVIDIA architecture and reads what the compiler says of it: no warning, no spill to
memory, every instance there. Prints registers and shared memory by kernel. (AMD: check_amd.py.)

usage: check_bodies.py --arch sm_90 --compiler PROGRAM --root REPOSITORY --out FILE.o -- FLAG..."""

import argparse
import json
import os
import re
import subprocess
import sys

KERNELS_WITHOUT_ROWS = 5  # dispatch, dispatch_small, dispatch_packets, expert_rows, expert_rows_few
KERNELS_PER_ROW = 2  # of instances.def: received rows, expert rows


def compile_bodies(args):
    """What the compiler printed. Ends the program if it is not there or refuses."""
    includes = [f"-I{os.path.join(args.root, folder)}" for folder in ("", "src", "include")]
    folder = os.path.join(args.root, "tests", "compile")
    command = [
        args.compiler,
        f"-gencode=arch=compute_{args.arch[3:]},code={args.arch}",
        "-Xptxas=-v",
        "-c",
        os.path.join(folder, "bodies_cuda.cu"),
    ]
    command += ["-std=c++20", "-O3", *args.flags, *includes, "-o", args.out]
    print(" ".join(command))
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        sys.exit(f"{args.compiler or 'the compiler'} is not installed; `./dev test` installs it")
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return done.stdout + done.stderr


def number_in(block, pattern):
    return int((re.search(pattern, block) or [0, 0])[1])


def nvidia_resources(said):
    """One dict per kernel from `ptxas -v`."""
    kernels = []
    for block in re.split(r"Compiling entry function '", said)[1:]:
        kernels.append(
            {
                "kernel": block.split("'")[0],
                "registers": number_in(block, r"Used (\d+) registers"),
                "shared": number_in(block, r"(\d+) bytes smem"),
                "stack": number_in(block, r"(\d+) bytes stack frame"),
                "spills": number_in(block, r"(\d+) bytes spill stores") + number_in(block, r"(\d+) bytes spill loads"),
            }
        )
    return kernels


def list_of(root, name):
    """Members of a list of lists.h, in order."""
    with open(os.path.join(root, "include", "crossdock", "lists.h"), encoding="utf-8") as f:
        text = re.search(rf"#define {name}\(X\)((?:.*\\\n)*.*)", f.read())[1]
    return re.findall(r"X\((\w+),", text)


def name_kernels(root, kernels):
    """From mangled names to those of the sources: combine_kernel<bf16, own, false>."""
    members = {"Dtype": list_of(root, "XD_DTYPES"), "CombineQuant": list_of(root, "XD_COMBINE_QUANTS")}
    names = subprocess.run(
        ["c++filt"], input="\n".join(k["kernel"] for k in kernels), capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for kernel, name in zip(kernels, names, strict=True):
        name = re.sub(r"\(crossdock::(Dtype|CombineQuant)\)(\d+)", lambda m: members[m[1]][int(m[2])], name)
        kernel["kernel"] = name.replace("crossdock::kernels::", "").split("(")[0].replace("void ", "")


def rows_of(path):
    with open(path, encoding="utf-8") as f:
        return len(re.findall(r"^XD_\w+\(", f.read(), re.MULTILINE))


def problems_of(args, kernels):
    rows, low_latency = (
        rows_of(os.path.join(args.root, "src", "kernels", "launch", file)) for file in ("instances.def", "ll_instances.def")
    )
    expected = KERNELS_WITHOUT_ROWS + KERNELS_PER_ROW * rows + low_latency
    problems = [f"{k['kernel']}: spills {k['spills']}" for k in kernels if k["spills"]]
    if len(kernels) != expected:
        problems.append(f"{len(kernels)} kernels were compiled, {expected} expected from {rows} and {low_latency} rows of instances.def")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--arch", "--compiler", "--root", "--out"):
        parser.add_argument(name, required=True)
    parser.add_argument("flags", nargs="*")
    args = parser.parse_args()
    said = compile_bodies(args)
    kernels = nvidia_resources(said)
    name_kernels(args.root, kernels)
    columns = list(kernels[0])[1:] if kernels else []
    print(f"{args.arch:44}" + "".join(f"{c:>18}" for c in columns))
    for k in kernels:
        print(f"{k['kernel']:44}" + "".join(f"{k[c]:18}" for c in columns))
    with open(args.out + ".jsonl", "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"arch": args.arch, **k}) + "\n" for k in kernels)
    problems = problems_of(args, kernels)
    print("\n".join([*problems, f"{args.arch}: {len(kernels)} kernels, {len(problems)} problem(s)"]))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
