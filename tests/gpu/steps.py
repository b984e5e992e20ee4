# SPDX-License-Identifier: Apache-2.0
"""What `./dev gpu` runs: name, number of GPUs, seconds it may take, command, and how it bears company. `{bin}`, `{root}` and
`{out}` are filled in. Steps that need fewer GPUs than there are run beside each other, on GPUs of their own."""
import collections

BUSY = "busy"    # takes its GPUs for itself
LIGHT = "light"  # leaves them idle most of the time, for the oracle's sake: two may share a GPU
QUIET = "quiet"  # measures: beside it only what measures too, on other GPUs
ALONE = "alone"  # measures what the machine can do: nothing beside it
Step = collections.namedtuple("Step", "name gpus limit_s command env company", defaults=({}, BUSY))

# Suites of host-only or CPU-only parts say nothing about a GPU.
CPU_ONLY = "Fibers.*:*OnFibers*:FiberMachine.*"
# Those that fork must find a process in which nobody has spoken to the driver.
IN_ONE_PROCESS = ":".join(f"{name}.*" for name in (
    "Shapes Ids Capacity Plans SeedGaps Usage Trace Lifetimes Agreement Streams Graphs Lost Manners Abort Tuning").split())
SIZES = "1,8,32,64,128,256,512,1024,4096,8192"
DECODE = "--tokens 1,128,4096"


def suite(name, gpus, program, wanted="*", limit_s=240, **env):
    command = f"{{bin}}/{program} --gtest_filter={wanted}-{CPU_ONLY}"
    return Step(f"{name}_{gpus}", gpus, limit_s, command, env)


def bench(name, gpus, arguments, limit_s=200):
    command = (f"{{bin}}/crossdock bench --ranks {gpus} {arguments} --jsonl {{out}}/bench_{gpus}.jsonl "
               f"--csv {{out}}/{name}_{gpus}.csv")
    return Step(f"{name}_{gpus}", gpus, limit_s, command, {}, QUIET)


# What only one vendor has.
OWN_QUICK = {"hip": [Step("hip_machine", 1, 240, "{bin}/hip_machine_tests --gtest_brief=1 --gtest_filter=OnAGpu.*")]}
OTHER_SHARE = {"cuda": "ipc", "hip": "vmm"}  # how processes share memory if not as they do by themselves


def quick(gpus, backend="cuda"):
    """Steps for `gpus` GPUs, two of which stand for the smaller group."""
    steps = [*OWN_QUICK.get(backend, []),
             Step("doctor", 2, 60, "{bin}/crossdock doctor"),
             Step(f"limits_{gpus}", gpus, 120, f"{{bin}}/crossdock bench --limits --ranks {gpus}", {}, ALONE)]
    for n in sorted({2, gpus}):
        cases = "{bin}/crossdock check --cases {root}/tests/cases"
        steps += [
            suite("backend", n, "backend_tests", "Matrix.EveryCellRuns*:Case.*"),
            suite("backend_processes", n, "backend_tests", "Matrix.EveryCellAsProcesses"),
            suite("multirank", n, "multirank_tests", IN_ONE_PROCESS),
            suite("processes", n, "multirank_tests", "Processes.*"),
            suite("device", n, "device_tests"),
            suite("property", n, "property_tests"),
            Step(f"seed_{n}_a", n, 240, f"{cases}/seed.json --ranks {n} --part 0/2", {}, LIGHT),
            Step(f"seed_{n}_b", n, 240, f"{cases}/seed.json --ranks {n} --part 1/2", {}, LIGHT),
            Step(f"seed_processes_{n}", n, 240, f"{cases}/seed.json --ranks {n} --processes --max-tokens 512", {}, LIGHT),
            Step(f"harder_{n}", n, 120, f"{cases}/harder.json --rounds 2", {}, LIGHT),
            Step(f"run_{n}", n, 60, f"{{bin}}/crossdock run --ranks {n} --text {{root}}/README.md", {}, LIGHT),
            Step(f"run_processes_{n}", n, 60, f"{{bin}}/crossdock run --ranks {n} --processes --text {{root}}/README.md", {}, LIGHT),
        ]
    for n in sorted({2, gpus}):
        steps += [
            bench("bf16", n, f"--tokens {SIZES} --path staged,zero_copy"),
            bench("fp8", n, f"--tokens {SIZES} --dtype fp8_e4m3 --combine-dtype bf16 --scale-bytes 224 --op dispatch,pair"),
        ]
    steps += [
        bench("modes", gpus, f"{DECODE} --mode graph1,eager"),
        bench("layouts", gpus, f"{DECODE} --layout expert_major,contiguous"),
        bench("wires", gpus, f"{DECODE} --wire fp8_direct_cast,fp8_block128 --op combine,pair"),
        bench("sms", gpus, "--tokens 128,4096 --num-sms 8,16,24,32,64"),
        bench("routings", gpus, "--tokens 128 --routing distinct_ranks,hot_spot,soft_hot,zipf,all_to_one"),
        Step("trace", gpus, 60, f"{{bin}}/crossdock trace --ranks {gpus} --tokens 128 --out {{out}}/decode.json"),
        Step("profile", gpus, 120, f"{{bin}}/crossdock profile --ranks {gpus} --tokens 128 --out {{out}}/profile"),
        Step("mem", 1, 30, "{bin}/crossdock mem --ranks 4 --hidden 7168 --experts 256 --topk 8"),
    ]
    return steps


def sanitizer(tool, limit_s=240):
    """One process a rank, each under the tool: within a process it runs one kernel at a time, and ranks would wait for ever."""
    command = (f"bash {{root}}/tests/gpu/each_rank.sh 2 compute-sanitizer --tool {tool} --error-exitcode 86 "
               "{bin}/crossdock check --cases {root}/tests/gpu/sanitizer_cases.json --deadline-ms 200000")
    return Step(tool, 2, limit_s, command)


SANITIZERS = {"cuda": ("memcheck", "racecheck", "synccheck")}  # AMD's asks for code that was built for it


def long(gpus, backend="cuda"):
    steps = [sanitizer(tool) for tool in SANITIZERS.get(backend, ())]
    share = OTHER_SHARE.get(backend, "automatic")
    steps += [
        Step("litmus", gpus, 300, "{bin}/litmus --rounds 1000000"),
        suite("replays", gpus, "multirank_tests", "Replays.*", 300, CROSSDOCK_TEST_REPLAYS="10000"),
        suite("faults", gpus, "multirank_tests", "Faults.*", 240),
        suite(f"faults_{share}", gpus, "multirank_tests", "Faults.*", 240, CROSSDOCK_SHARE=share),
        suite("cycles", gpus, "multirank_tests", "Cycles.OfThreads", 240),
        suite("cycles_processes", gpus, "multirank_tests", "Cycles.OfProcesses", 240),
        suite("fuzz", gpus, "fuzz_tests", "*", 240),
    ]
    return steps
