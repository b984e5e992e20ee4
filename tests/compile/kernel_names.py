# SPDX-License-Identifier: Apache-2.0
"""The kernels that every GPU machine must have, by the names that the HIP plug-in gives them."""

import os
import re


def rows_of(root, file):
    with open(os.path.join(root, "src", "kernels", "launch", file), encoding="utf-8") as f:
        return re.findall(r"^XD_\w+\((\w+)(?:, (\w+))?\)", f.read(), re.MULTILINE)


def expected_names(root):
    combines = [f"combine_{dtype}_{wire}{which}" for dtype, wire in rows_of(root, "instances.def") for which in ("", "_by_expert")]
    return [
        "dispatch",
        "dispatch_latency",
        "dispatch_ll",
        "expert_rows",
        "expert_rows_latency",
        *combines,
        *(f"combine_{dtype}_ll" for dtype, _ in rows_of(root, "ll_instances.def")),
    ]


def check_names(names, expected):
    yield from (f"no kernel {name}" for name in expected if name not in names)
    yield from (f"kernel {name} is none of instances.def" for name in names if name not in expected)
