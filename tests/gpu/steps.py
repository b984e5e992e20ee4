# SPDX-License-Identifier: Apache-2.0
"""What `./dev gpu` runs: name, number of GPUs, seconds it may take, command, how it bears company, and the file in `{out}` to
which it adds its figures. `{bin}`, `{root}` and `{out}` are filled in. Steps that need fewer GPUs than there are run beside each
other, on GPUs of their own."""

import collections
import math
import shlex

BUSY = "busy"  # takes its GPUs for itself
LIGHT = "light"  # leaves them idle most of the time, for the oracle's sake: two may share a GPU
QUIET = "quiet"  # measures: beside it only what measures too, on other GPUs
ALONE = "alone"  # measures what the machine can do: nothing beside it
Step = collections.namedtuple("Step", "name gpus limit_s command env company figures", defaults=({}, BUSY, ""))

# Suites of host-only or CPU-only parts say nothing about a GPU.
CPU_ONLY = "Fibers.*:*OnFibers*:FiberMachine.*:WhoMayWait.*"
ON_ONE_GPU = "*BesideACollective*"  # a stand-in that counts on one device
# Those that fork must find a process in which nobody has spoken to the driver.
IN_ONE_PROCESS = ":".join(
    f"{name}.*"
    for name in (
        "Shapes Ids Capacity Plans SeedGaps Usage Trace Lifetimes Agreement Streams Graphs Lost Manners Abort Tuning LlPackets"
    ).split()
)
MOST_RANKS = 8
SIZES = "1,8,32,64,128,256,512,1024,2048,4096,8192"
DECODE = "--tokens 1,128,4096"
FP8 = "--dtype fp8_e4m3 --combine-dtype bf16 --scale-bytes 224"
BOTH_ROUTINGS = "--routing random,distinct_ranks"
IN_PACKETS = {"CROSSDOCK_PACKET_TOKENS": "32"}
CASES = "{bin}/crossdock check --cases {root}/tests/cases"


def suite(name, gpus, program, wanted="*", limit_s=240, **env):
    unwanted = CPU_ONLY if wanted == ON_ONE_GPU else f"{CPU_ONLY}:{ON_ONE_GPU}"
    command = f"{{bin}}/{program} --gtest_filter={wanted}-{unwanted}"
    return Step(f"{name}_{gpus}", gpus, limit_s, command, env)


def num_points(arguments):
    """How many times a bench takes: the product of the lengths of its lists, of three operations by default."""
    words = shlex.split(arguments)
    lists = {flag: value.split(",") for flag, value in zip(words[::2], words[1::2], strict=False)}
    return math.prod(len(values) for values in {"--op": [None] * 3, **lists}.values())


def bench(name, gpus, arguments, **env):
    """On two H200 a time took 0.3 to 1.4 s, with the oracle's answer; a start some seconds."""
    figures = f"bench_{name}_{gpus}.jsonl"
    command = f"{{bin}}/crossdock bench --ranks {gpus} {arguments} --jsonl {{out}}/{figures} --csv {{out}}/{name}_{gpus}.csv"
    kept = "" if env else figures  # a baseline holds what users get by themselves
    return Step(f"{name}_{gpus}", gpus, 40 + 2 * num_points(arguments), command, env, QUIET, kept)


def cases(name, gpus, file, arguments="", limit_s=240):
    return Step(f"{name}_{gpus}", gpus, limit_s, f"{CASES}/{file}.json {arguments}".rstrip(), {}, LIGHT)


def mem(ranks, backend):
    """Four ranks must stay below 0.75 GB each, and rows grow with the number of ranks."""
    return Step(
        f"mem_{ranks}",
        1,
        30,
        f"{{bin}}/crossdock mem --backend {backend} --ranks {ranks} --tokens 4096 --hidden 7168 "
        f"--experts 256 --topk 8 --max-in-flight 1 --layout token_major --limit {0.1875 * ranks:g}GB",
    )


# What only one vendor has.
OWN_QUICK = {"hip": [Step("hip_machine", 1, 240, "{bin}/hip_machine_tests --gtest_brief=1 --gtest_filter=OnAGpu.*")]}
OTHER_SHARE = {"cuda": "ipc", "hip": "vmm"}  # how processes share memory if not as they do by themselves


def backend_suites(n):
    return [
        suite("backend", n, "backend_tests", "Matrix.EveryCellRuns*:Case.*"),
        suite("backend_processes", n, "backend_tests", "Matrix.EveryCellAsProcesses"),
    ]


def seed_cases(n):
    return [cases("seed_a", n, "seed", f"--ranks {n} --part 0/2"), cases("seed_b", n, "seed", f"--ranks {n} --part 1/2")]


def seed_as_processes(n):
    return cases("seed_processes", n, "seed", f"--ranks {n} --processes")


def shared(gpus):
    """Two ranks on each GPU: a check of correctness only."""
    few = min(gpus, MOST_RANKS // 2)
    return cases("seed_shared", few, "seed", f"--ranks {2 * few}")


def sms(gpus):
    return bench("sms", gpus, "--tokens 128,4096 --num-sms 0,8,16,24,32,64")


def routing_benches(gpus):
    return [
        bench("routings", gpus, "--tokens 128 --routing hot_spot,soft_hot --floor tell"),
        bench("skewed", gpus, "--tokens 128,4096 --routing zipf,all_to_one --floor tell"),
        bench("skewed_fp8", gpus, f"--tokens 128,4096 --routing zipf,all_to_one {FP8} --op dispatch,pair --floor tell"),
    ]


def form_benches(gpus):
    return [
        bench("modes", gpus, f"{DECODE} --mode graph,graph1,eager --path staged,zero_copy"),
        bench("layouts", gpus, f"{DECODE} --layout token_major,expert_major,contiguous"),
        bench("weights", gpus, f"{DECODE} --combine-topk-weights no,yes --path staged,zero_copy --op combine"),
        bench("wires", gpus, f"{DECODE} --combine-quant none,fp8_direct_cast,fp8_blockwise --op combine,pair"),
    ]


def sweeps(gpus, more=""):
    return [
        bench("bf16", gpus, f"--tokens {SIZES} --path staged,zero_copy {more}".rstrip()),
        bench("fp8", gpus, f"--tokens {SIZES} {FP8} --op dispatch,pair {more}".rstrip()),
        bench("replay", gpus, f"--tokens {SIZES} --op replay"),
    ]


def packets(gpus):
    """What docs/adr/0014-one-hop.md predicts; compared with the oracle as all times are."""
    return [
        bench("packets", gpus, "--tokens 1,8,16,32 --path staged,zero_copy", **IN_PACKETS),
        bench("packets_fp8", gpus, f"--tokens 1,8,16,32 {FP8} --op dispatch,pair", **IN_PACKETS),
    ]


def creation(gpus):
    return bench("create", gpus, "--tokens 128,4096 --create")


def shapes(gpus):
    """Around the usual shape one axis at a time, then its corners; lines above 1.25 x floor + 3 us are told, and fail nothing."""
    tokens = "--tokens 3,7,100,1000,4096"
    ends = "--op dispatch,combine --floor tell"
    return [
        bench("hidden", gpus, f"{tokens} --hidden 2048,2880,4096,5120,6144 {ends}"),
        bench("topk", gpus, f"{tokens} --topk 1,4,6,16 {ends}"),
        bench("experts", gpus, f"{tokens} --experts 64,128,384 {ends}"),
        bench("odd_tokens", gpus, f"--tokens 3,7,100,1000 --path staged,zero_copy {ends}"),
        bench("corners", gpus, f"--tokens 7,1000 --hidden 2048,6144 --topk 1,16 --experts 64,384 {ends}"),
        *([bench("three", 3, f"--tokens 1,3,7,100,128,1000,4096,8192 {ends}")] if gpus > 3 else []),
    ]


def limits(gpus):
    return Step(f"limits_{gpus}", gpus, 120, f"{{bin}}/crossdock bench --limits --ranks {gpus}", {}, ALONE)


def doctor(gpus):
    return Step("doctor", gpus, 60, "{bin}/crossdock doctor")


def quick(gpus, backend="cuda"):
    """Steps for `gpus` GPUs, two of which stand for the smaller group."""
    groups = sorted({2, gpus})
    steps = [*OWN_QUICK.get(backend, []), doctor(2), limits(gpus)]
    steps.append(suite("collective", 1, "device_tests", ON_ONE_GPU, CROSSDOCK_TEST_DEVICES="0,0"))
    for n in groups:
        steps += [
            *backend_suites(n),
            suite("multirank", n, "multirank_tests", IN_ONE_PROCESS),
            suite("processes", n, "multirank_tests", "Processes.*"),
            suite("device", n, "device_tests"),
            suite("property", n, "property_tests"),
            *seed_cases(n),
            *([seed_as_processes(n)] if n == gpus else []),
            cases("harder", n, "harder", "--rounds 2", 120),
            Step(f"run_{n}", n, 60, f"{{bin}}/crossdock run --ranks {n} --text {{root}}/README.md", {}, LIGHT),
            Step(f"run_processes_{n}", n, 60, f"{{bin}}/crossdock run --ranks {n} --processes --text {{root}}/README.md", {}, LIGHT),
        ]
    for n in groups:
        steps += sweeps(n)
    return [
        *steps,
        bench("distinct", gpus, "--tokens 1,128,1024,4096 --path staged,zero_copy --routing distinct_ranks"),
        bench("distinct_fp8", gpus, f"--tokens 1,128,1024,4096 {FP8} --op dispatch,pair --routing distinct_ranks"),
        *form_benches(gpus),
        creation(gpus),
        sms(gpus),
        *routing_benches(gpus),
        Step("trace", gpus, 60, f"{{bin}}/crossdock trace --ranks {gpus} --tokens 128 --out {{out}}/decode.json"),
        Step("profile", gpus, 120, f"{{bin}}/crossdock profile --ranks {gpus} --tokens 128 --out {{out}}/profile"),
        *(mem(ranks, backend) for ranks in sorted({4, gpus})),
    ]


def sanitizer(tool, limit_s=450):
    """One process a rank, each under the tool: within a process it runs one kernel at a time, and ranks would wait for ever."""
    command = (
        f"bash {{root}}/tests/gpu/each_rank.sh 2 compute-sanitizer --tool {tool} --error-exitcode 86 "
        "{bin}/crossdock check --cases {root}/tests/gpu/sanitizer_cases.json --deadline-ms 200000"
    )
    return Step(tool, 2, limit_s, command)


SANITIZERS = {"cuda": ("memcheck", "racecheck", "synccheck")}  # AMD's asks for code that was built for it


def faults(gpus):
    return suite("faults", gpus, "multirank_tests", "Faults.*", 300)


def long(gpus, backend="cuda"):
    steps = [sanitizer(tool) for tool in SANITIZERS.get(backend, ())]
    share = OTHER_SHARE.get(backend, "automatic")
    backwards = ",".join(str(gpu) for gpu in reversed(range(gpus)))
    return [
        *steps,
        shared(gpus),
        cases("harder_processes", gpus, "harder", f"--ranks {gpus} --processes"),
        suite("device_reversed", gpus, "device_tests", CROSSDOCK_TEST_DEVICES=backwards),
        suite("opposite_orders", gpus, "device_tests", "*CallsInOppositeOrders*", 600, CROSSDOCK_TEST_ROUNDS="10000"),
        suite("collective_long", 1, "device_tests", ON_ONE_GPU, 600, CROSSDOCK_TEST_DEVICES="0,0", CROSSDOCK_TEST_ROUNDS="10000"),
        Step("litmus", gpus, 300, "{bin}/litmus --rounds 1000000"),
        suite("replays", gpus, "multirank_tests", "Replays.*", 300, CROSSDOCK_TEST_REPLAYS="10000"),
        faults(gpus),
        suite(f"faults_{share}", gpus, "multirank_tests", "Faults.*", 300, CROSSDOCK_IPC=share),
        suite(f"processes_{share}", gpus, "multirank_tests", "Processes.*", CROSSDOCK_IPC=share),
        suite(f"backend_processes_{share}", gpus, "backend_tests", "Matrix.EveryCellAsProcesses", CROSSDOCK_IPC=share),
        suite("cycles", gpus, "multirank_tests", "Cycles.OfThreads", 240),
        suite("cycles_processes", gpus, "multirank_tests", "Cycles.OfProcesses", 240),
        suite("fuzz", gpus, "fuzz_tests", "*", 240),
        suite("backend_packets", gpus, "backend_tests", "Matrix.EveryCellRuns*", **IN_PACKETS),
        *packets(gpus),
    ]


def whole_host(gpus, backend="cuda"):
    """All that a host must show with all its GPUs: that every bit is right, also in odd groups, and losses are noticed; then figures."""
    odd = [cases("seed_some", w, "seed", f"--ranks {w} --part 0/4") for w in range(5, gpus)]
    fp8 = [
        bench("modes_fp8", gpus, f"{DECODE} --mode graph,graph1,eager {FP8} --op dispatch,pair"),
        bench("sms_fp8", gpus, f"--tokens 128,4096 --num-sms 0,8,16,24,32,64 {FP8} --op dispatch"),
    ]
    return [
        doctor(gpus),
        *backend_suites(gpus),
        *seed_cases(gpus),
        seed_as_processes(gpus),
        *odd,
        cases("harder", gpus, "harder", "--rounds 2"),
        shared(gpus),
        faults(gpus),
        limits(gpus),
        *sweeps(gpus, BOTH_ROUTINGS),
        creation(gpus),
        sms(gpus),
        *routing_benches(gpus),
        *form_benches(gpus),
        *fp8,
        *shapes(gpus),
        *(mem(ranks, backend) for ranks in sorted({4, gpus})),
    ]


PLANS = {"quick": quick, "long": long, "all": whole_host}
