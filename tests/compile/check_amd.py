# SPDX-License-Identifier: Apache-2.0
"""Reads what clang made of the HIP machine for one architecture: the code that the plug-in carries and the vocabulary,
verb by verb. Prints registers and shared memory by kernel and writes them as JSON lines. Every check is then run once more
on spoiled input and must object.

usage: check_amd.py --arch gfx942 --bodies FILE.s --object FILE.co --verbs FILE.s --cxx g++ --root REPOSITORY --report FILE.jsonl"""

import argparse
import copy
import functools
import json
import re
import subprocess
import sys

import amd_assembly as amd
from kernel_names import check_names, expected_names

ARGUMENTS = {"dispatch": "DispatchArgs", "expert": "ExpertRowsArgs", "combine": "CombineArgs"}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


@functools.cache
def check_arguments(sizes, cxx, root):
    """Host and device lay out the arguments alike: asserted by the host's compiler on the device's sizes."""
    lines = ['#include "kernels/common/args.hpp"']
    for kernel, size in sizes:
        struct = ARGUMENTS[kernel.split("_")[0]]
        lines.append(f'static_assert(sizeof(crossdock::kernels::{struct}) == {size}, "{kernel}");')
    done = subprocess.run(
        [cxx, "-std=c++20", "-fsyntax-only", f"-I{root}/src", f"-I{root}/include", "-x", "c++", "-"],
        input="\n".join(lines),
        capture_output=True,
        text=True,
    )
    return ["arguments differ between host and device:\n" + done.stderr] if done.returncode else []


class Inputs:
    """All that is read, in a form that can be spoiled."""

    def __init__(self, args):
        bodies = read(args.bodies)
        self.args = args
        self.modes = "\n".join(re.findall(r"^\s+\.amdhsa_(?:kernel|float).*", bodies, re.MULTILINE)) + "\n"
        self.bodies = {amd.body_of(name): code for name, code in amd.kernels_of(bodies).items()}
        self.resources = [r | {"kernel": amd.body_of(r["kernel"])} for r in amd.resources_of(bodies)]
        self.verbs = amd.kernels_of(read(args.verbs))
        with open(args.object, "rb") as f:
            self.head = f.read(64)

    def copied(self):
        other = copy.copy(self)
        other.bodies, other.resources, other.verbs = dict(self.bodies), list(self.resources), dict(self.verbs)
        return other


def problems_of(inputs, sound=None):
    """Of all inputs; of bodies only those that differ from the `sound` ones."""
    args = inputs.args
    problems = [
        *check_names(list(inputs.bodies), expected_names(args.root)),
        *amd.check_resources(inputs.resources),
        *amd.check_verbs(inputs.verbs),
        *amd.check_object(args.arch, inputs.head),
        *amd.check_float_modes(inputs.modes),
        *check_arguments(tuple((r["kernel"], r["argument_bytes"]) for r in inputs.resources), args.cxx, args.root),
    ]
    for name, code in inputs.bodies.items():
        if sound and sound.bodies[name] is code:
            continue
        for check in (amd.check_write_backs, amd.check_signals, amd.check_accesses, amd.check_arithmetic):
            problems += check(name, code)
    return problems


def replaced(code, pattern, by):
    return [re.sub(pattern, by, i) for i in code]


def without(code, pattern):
    return [i for i in code if not re.match(pattern, i)]


# name: (part of the objection, what spoils the inputs)
def spoils():
    def verb(name, change):
        def spoil(inputs):
            inputs.verbs["verb_" + name] = change(inputs.verbs["verb_" + name])

        return spoil

    def body(name, change):
        def spoil(inputs):
            inputs.bodies[name] = change(inputs.bodies[name])

        return spoil

    def resource(key, value):
        def spoil(inputs):
            inputs.resources[3] = inputs.resources[3] | {key: value}

        return spoil

    return [
        ("verb store_release", verb("store_release", lambda c: replaced(c, "wbl2 sc0 sc1", "wbl2 sc1"))),
        ("verb store_release", verb("store_release", lambda c: without(c, r"s_waitcnt vmcnt"))),
        ("verb store_release", verb("store_release", lambda c: c[::-1])),
        ("verb load_acquire", verb("load_acquire", lambda c: without(c, "buffer_inv"))),
        ("verb load_acquire", verb("load_acquire", lambda c: replaced(c, "(global_load.*) sc0 sc1", r"\1 sc1"))),
        ("verb add_acq_rel", verb("add_acq_rel", lambda c: without(c, "buffer_wbl2"))),
        ("verb fence_loads", verb("fence_loads", lambda c: without(c, "buffer_inv"))),
        ("verb load_relaxed", verb("load_relaxed", lambda c: replaced(c, " sc0 sc1", ""))),
        ("verb store16_streaming", verb("store16_streaming", lambda c: replaced(c, " nt", ""))),
        ("verb load16_streaming", verb("load16_streaming", lambda c: replaced(c, "dwordx4", "dwordx2"))),
        ("verb sync_block", verb("sync_block", lambda c: without(c, "s_barrier"))),
        ("verb ballot", verb("ballot", lambda c: without(c, "v_cmp"))),
        ("without a wait", body("dispatch", lambda c: without(c, r"s_waitcnt.*vmcnt"))),
        ("combine_bf16_none: no `buffer_inv", body("combine_bf16_none", lambda c: replaced(c, "inv sc0 sc1", "inv sc1"))),
        ("dispatch: 16-byte", body("dispatch", lambda c: replaced(c, "(global_store_dwordx4.*) nt", r"\1"))),
        ("combine_f16_none: 1 x global_load_ushort", body("combine_f16_none", lambda c: [*c, "global_load_ushort v0, v1, off"])),
        ("2 x global_store_byte", body("dispatch", lambda c: [*c, "global_store_byte v0, v1, off"])),
        ("5 fused multiply-adds", body("combine_bf16_none", lambda c: [*c, "v_fmac_f32_e32 v0, v1, v2"])),
        ("denorm_mode_32 3", lambda inputs: setattr(inputs, "modes", inputs.modes.replace("denorm_mode_32 3", "denorm_mode_32 0", 1))),
        ("no kernel combine_bf16_none", lambda inputs: inputs.bodies.pop("combine_bf16_none")),
        ("spills 4 registers", resource("spills", 4)),
        ("16 bytes of stack", resource("stack", 16)),
        ("arguments differ", resource("argument_bytes", 576)),
        ("ELF flags", lambda inputs: setattr(inputs, "head", inputs.head[:48] + b"\x3f\x05\x00\x00" + inputs.head[52:])),
        ("is no ELF file", lambda inputs: setattr(inputs, "head", b"\x00" * 64)),
    ]


def objections_missing(inputs):
    for wanted, spoil in spoils():
        spoiled = inputs.copied()
        spoil(spoiled)
        found = problems_of(spoiled, inputs)
        if not any(wanted in problem for problem in found):
            yield f"a check is blind: spoiled input brought no `{wanted}`, but {found}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--arch", "--bodies", "--object", "--verbs", "--cxx", "--root", "--report"):
        parser.add_argument(name, required=True)
    args = parser.parse_args()
    inputs = Inputs(args)
    columns = list(inputs.resources[0])[1:] if inputs.resources else []
    print(f"{args.arch:38}" + "".join(f"{c:>17}" for c in columns))
    for r in inputs.resources:
        print(f"{r['kernel']:38}" + "".join(f"{r[c]:17}" for c in columns))
    with open(args.report, "w", encoding="utf-8") as f:
        f.writelines(json.dumps({"arch": args.arch, **r}) + "\n" for r in inputs.resources)
    problems = problems_of(inputs)
    problems += [] if problems else objections_missing(inputs)
    print(
        "\n".join(
            [
                *problems,
                (
                    f"{args.arch}: {len(inputs.bodies)} kernels, {len(inputs.verbs)} verbs, "
                    f"{len(spoils())} checks seen to object, {len(problems)} problem(s)"
                ),
            ]
        )
    )
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
