# SPDX-License-Identifier: Apache-2.0
"""The answer in numpy: plain loops from the contract, sharing no line with the library. Types by ml_dtypes, sums in float32."""

import ml_dtypes
import numpy as np

DTYPES = {
    "bf16": ml_dtypes.bfloat16,
    "f16": np.float16,
    "f32": np.float32,
    "fp8_e4m3": ml_dtypes.float8_e4m3fn,
    "fp8_e4m3fnuz": ml_dtypes.float8_e4m3fnuz,
}
LARGEST = {"fp8_e4m3": 448.0, "fp8_e4m3fnuz": 240.0}


def experts_per_rank(num_experts, num_ranks):
    return -(-num_experts // num_ranks)


def narrow(values, dtype):
    """float32 to `dtype`, to nearest even; fp8 saturates."""
    if dtype in LARGEST:
        values = np.clip(values, -LARGEST[dtype], LARGEST[dtype])
    return values.astype(DTYPES[dtype])


def ranks_of(ids, per_rank, num_experts):
    """Distinct ranks of one token, in the order in which its ids first name them."""
    return list(dict.fromkeys(int(e) // per_rank for e in ids if 0 <= e < num_experts))


def received(all_ids, num_experts, capacity):
    """For each rank the list of (source rank, token) of its rows, in order, cut at the capacity."""
    num_ranks = len(all_ids)
    per_rank = experts_per_rank(num_experts, num_ranks)
    rows = [[] for _ in range(num_ranks)]
    for source, ids in enumerate(all_ids):
        for token, of_token in enumerate(ids):
            for rank in ranks_of(of_token, per_rank, num_experts):
                rows[rank].append((source, token))
    return [r[:capacity] for r in rows]


def expert_rows(rank, rows, all_ids, num_experts):
    """For each local expert the list of (source, token, weight indices) in order."""
    per_rank = experts_per_rank(num_experts, len(all_ids))
    local = max(0, min(per_rank, num_experts - rank * per_rank))
    experts = [[] for _ in range(local)]
    for source, token in rows:
        ids = all_ids[source][token]
        for expert in dict.fromkeys(int(e) for e in ids):
            if expert // per_rank == rank and 0 <= expert < num_experts:
                experts[expert - rank * per_rank].append((source, token, [j for j, e in enumerate(ids) if e == expert]))
    return experts


def merged_weight(weights, indices):
    """Weights of a repeated id, added in float32 in the order of the ids."""
    total = np.float32(0)
    for j in indices:
        total = np.float32(total + weights[j])
    return total


def sum_home(parts, dtype):
    """Rows of the ranks, in order, added in float32 and rounded once."""
    total = np.zeros_like(parts[0], dtype=np.float32) if parts else None
    for part in parts:
        total = total + part.astype(np.float32)
    return narrow(total, dtype)
