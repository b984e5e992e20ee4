# SPDX-License-Identifier: Apache-2.0
"""The tests for GPUs, with 2 and 4 ranks under torchrun: python tests/python/on_gpus.py [--ranks N...] [PYTEST_ARGUMENTS...]

Needs a torch with CUDA, pytest, ml_dtypes, and the package built with nvcc (`pip install .`). Where there are fewer GPUs than ranks,
`--share` lets processes share them: no times are judged then, and nothing goes over NCCL, which refuses that. Without GPUs `--rehearse`
runs, on the CPU backend, what does not need a GPU itself: it shows that the programs are sound, and nothing of GPUs."""

import argparse
import os
import pathlib
import subprocess
import sys

import torch

FOLDER = pathlib.Path(__file__).resolve().parent
NOTHING_RAN = 5  # pytest's exit status


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--share", action="store_true", help="ranks share GPUs if there are too few")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU backend")
    options, arguments = parser.parse_known_args()
    devices = torch.cuda.device_count()
    if not options.rehearse and not devices:
        sys.exit("on_gpus: torch sees no GPU; --rehearse runs what the CPU backend can")
    for ranks in options.ranks:
        sharing = not options.rehearse and ranks > devices
        if sharing and not options.share:
            print(f"on_gpus: {ranks} ranks left out, there are {devices} GPUs; --share lets ranks share them")
            continue
        marks = "gpu" + " and not needs_cuda" * options.rehearse + " and not needs_own_gpu" * sharing
        print(f"== {ranks} ranks" + f" that share {devices} GPUs" * sharing, flush=True)
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "torch.distributed.run",
                f"--nproc-per-node={ranks}",
                *"--rdzv-backend=c10d --rdzv-endpoint=localhost:0 -m pytest -q -x -m".split(),
                marks,
                str(FOLDER / "gpus"),
                *arguments,
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "CROSSDOCK_TEST_DEVICE": "cpu" if options.rehearse else "cuda"},
        )
        if done.returncode:
            sys.exit(f"on_gpus: failed with {ranks} ranks" + (": no test ran" if done.returncode == NOTHING_RAN else ""))


if __name__ == "__main__":
    main()
