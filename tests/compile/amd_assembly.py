# SPDX-License-Identifier: Apache-2.0
"""AMD assembly as clang writes it: the instructions of each kernel, what its metadata says, and what must hold of both.
A check is a function that gives problems as texts; check_amd.py runs them, and each of them on spoiled input."""

import collections
import re
import struct

ELF_FLAGS = {"gfx942": 0x54C, "gfx950": 0x54F, "gfx1030": 0x36}
ELF_FLAGS_MASK = 0xFFF

# Instructions of a verb, in this order, others between; `!` = must not occur. Scopes: sc0 sc1 = system, sc1 = device.
# As in "Memory Model GFX942" of LLVM's AMDGPUUsage: a release writes back the L2, waits, then stores past it; an acquire
# loads past it, waits, then invalidates.
VERBS = {
    "load_relaxed": ["global_load_dwordx2 .* sc0 sc1", "!buffer_inv"],
    "load_acquire": ["global_load_dwordx2 .* sc0 sc1", r"s_waitcnt vmcnt\(0\)", "buffer_inv sc0 sc1"],
    "store_relaxed": ["global_store_dwordx2 .* sc0 sc1", "!buffer_wbl2"],
    "store_release": ["buffer_wbl2 sc0 sc1", r"s_waitcnt vmcnt\(0\)", "global_store_dwordx2 .* sc0 sc1"],
    "store_release_prior_kernels": ["buffer_wbl2 sc0 sc1", r"s_waitcnt vmcnt\(0\)", "global_store_dwordx2 .* sc0 sc1"],
    "fence_loads": ["global_load_dwordx2 ", r"s_waitcnt vmcnt\(0\)", "buffer_inv sc0 sc1", "global_load_dwordx2 "],
    "add_acq_rel": ["buffer_wbl2 sc1", r"s_waitcnt vmcnt\(0\)", "global_atomic_add .* sc0", r"s_waitcnt vmcnt\(0\)", "buffer_inv sc1"],
    "add_relaxed": ["global_atomic_add ", "!buffer_"],
    "or_relaxed": ["ds_or_b32 ", "!buffer_"],
    "claim": ["global_atomic_cmpswap_x2 .* sc0"],
    "load16": ["global_load_dwordx4 ", "! nt"],
    "load16_streaming": ["global_load_dwordx4 .* nt"],
    "store16": ["global_store_dwordx4 ", "! nt"],
    "store16_streaming": ["global_store_dwordx4 .* nt"],
    "load16_atomic": ["global_load_dwordx2 .* sc0 sc1", r"s_waitcnt vmcnt\(0\)", "buffer_inv sc0 sc1", "global_load_dwordx2 .* sc0 sc1"],
    "store16_atomic": [
        "global_store_dwordx2 .* sc0 sc1",
        "buffer_wbl2 sc0 sc1",
        r"s_waitcnt vmcnt\(0\)",
        "global_store_dwordx2 .* sc0 sc1",
    ],
    "sync_block": [r"s_waitcnt vmcnt\(0\)", "s_barrier"],
    "sync_block_or": ["s_barrier", "s_barrier", "s_barrier"],
    "max_across": ["ds_bpermute_b32 "] * 3 + ["!ds_(read|write)"],
    "ballot": [r"v_cmp_\w+ (?:vcc|s\[)", "!ds_"],
    "now_ns": ["s_memrealtime "],
    "pause": ["s_sleep 2"],
}

# Accesses of less than four bytes that a body needs, and how many instructions of each there may be.
NARROW = re.compile(r"((?:global|flat|buffer)_(?:load|store)_(?:[us]?byte|[us]?short)\w*) ")
OF_EXPONENTS = {"global_load_ubyte": 16, "global_store_byte": 1}  # one byte a block of 128 elements, of eight rows, in two sums
OF_SCALES = {"global_load_ubyte": 1, "global_store_byte": 1}  # any byte count, to one rank after another


def kernels_of(assembly):
    """{name: [instruction, ...]} of a .s file."""
    kernels = {}
    for match in re.finditer(r"^(\w+):\s+; @\1\n(.*?)^\.Lfunc_end", assembly, re.DOTALL | re.MULTILINE):
        lines = (line.split(";")[0].strip() for line in match[2].split("\n"))
        kernels[match[1]] = [line for line in lines if re.match(r"[a-z][a-z0-9]*_\w+", line)]
    return kernels


def body_of(kernel):
    return kernel.removeprefix("crossdock_")


def resources_of(assembly):
    """One dict per kernel from the metadata at the end of a .s file."""
    found = []
    for block in re.split(r"^  - \.agpr_count:", assembly, flags=re.MULTILINE)[1:]:

        def number(name, block=block):
            return int(re.search(rf"\.{name}:\s+(\d+)", block)[1])

        size = re.search(r"\.offset:\s+0\n\s+\.size:\s+(\d+)", block)
        found.append(
            {
                "kernel": re.search(r"\.name:\s+(\w+)\n(?=\s+\.private)", block)[1],
                "registers": number("vgpr_count"),
                "scalar_registers": number("sgpr_count"),
                "shared": number("group_segment_fixed_size"),
                "stack": number("private_segment_fixed_size"),
                "spills": number("vgpr_spill_count"),
                "scalar_spills": number("sgpr_spill_count"),
                "argument_bytes": int(size[1]) if size else 0,
            }
        )
    return found


def check_verbs(kernels):
    for verb, wanted in VERBS.items():
        instructions = kernels.get("verb_" + verb)
        if instructions is None:
            yield f"verb {verb}: not compiled"
            continue
        at = 0
        for pattern in (p for p in wanted if p[0] != "!"):
            while at < len(instructions) and not re.match(pattern, instructions[at]):
                at += 1
            if at == len(instructions):
                yield f"verb {verb}: no `{pattern}` in its place: {' | '.join(instructions)}"
                break
            at += 1
        for pattern in (p[1:] for p in wanted if p[0] == "!"):
            yield from (f"verb {verb}: `{i}`" for i in instructions if re.search(pattern, i))


def check_write_backs(name, instructions):
    """Behind each write-back of the L2 a wait for all of memory, before anything is stored or branched to."""
    for index, instruction in enumerate(instructions):
        if not instruction.startswith("buffer_wbl2"):
            continue
        for after in instructions[index + 1 :]:
            if after.startswith("s_waitcnt") and "vmcnt(0)" in after:
                break
            if re.match(r"(global|flat|buffer)_(store|atomic)|s_c?branch|s_endpgm", after):
                yield f"{name}: `{instruction}` is followed by `{after}` without a wait"
                break


def check_signals(name, instructions):
    """A body that speaks to peers releases and acquires at system scope."""
    if name.startswith(("dispatch", "combine")):
        yield from (f"{name}: no `{wanted}`" for wanted in ("buffer_wbl2 sc0 sc1", "buffer_inv sc0 sc1") if wanted not in instructions)


def check_accesses(name, instructions):
    """Rows move 16 bytes at a time and past the cache; nothing is narrower than a word where sizes need no tail."""
    moves = {i.split("_")[1] for i in instructions if re.match(r"global_(load|store)_dwordx4 .* nt", i)}
    wanted = {"load"} if name == "dispatch_ll" else {"load", "store"}  # what leaves there is packets
    if moves != wanted:
        yield f"{name}: 16-byte accesses past the cache: {sorted(moves)}, not {sorted(wanted)}"
    allowed = {}
    if "fp8_blockwise" in name:
        allowed = OF_EXPONENTS
    elif name in ("dispatch", "dispatch_latency", "dispatch_ll", "expert_rows", "expert_rows_latency"):
        allowed = OF_SCALES
    narrow = collections.Counter(match[1] for match in map(NARROW.match, instructions) if match)
    yield from (
        f"{name}: {count} x {what}, at most {allowed.get(what, 0)} have a reason"
        for what, count in narrow.items()
        if count > allowed.get(what, 0)
    )


def check_arithmetic(name, instructions):
    """Sums and products are rounded one by one. Division of 64-bit integers fuses two for its first guess, no other may."""

    def count(pattern):
        return sum(bool(re.match(pattern, i)) for i in instructions)

    fused, guesses = count(r"v_(pk_)?(fma|fmac|mac|mad)\w*f(16|32|64)"), count(r"v_rcp_f32")
    if fused > 2 * guesses:
        yield f"{name}: {fused} fused multiply-adds for {guesses} integer divisions"


def check_float_modes(assembly):
    """Rounding to nearest even, and subnormals are kept: as the dispatch packet sets the wave up."""
    kernels = len(re.findall(r"^\s+\.amdhsa_kernel ", assembly, re.MULTILINE))
    for directive in (".amdhsa_float_denorm_mode_32 3", ".amdhsa_float_round_mode_32 0"):
        found = assembly.count(directive + "\n")
        if found != kernels or kernels == 0:
            yield f"{found} of {kernels} kernels say {directive}"


def check_resources(kernels):
    for kernel in kernels:
        if kernel["spills"] or kernel["stack"]:
            yield f"{kernel['kernel']}: spills {kernel['spills']} registers, {kernel['stack']} bytes of stack a lane"


def check_object(architecture, head):
    """e_flags of a 64-bit ELF file, whose first 64 bytes are `head`."""
    if head[:4] != b"\x7fELF":
        yield f"{architecture}: the code object is no ELF file"
        return
    flags = struct.unpack_from("<I", head, 48)[0] & ELF_FLAGS_MASK
    if flags != ELF_FLAGS[architecture]:
        yield f"ELF flags are {flags:#x}, not {ELF_FLAGS[architecture]:#x} as for {architecture}"
