/* SPDX-License-Identifier: Apache-2.0 */
/* Names from before version 0.1, each with its successor. The use of one is an error, whose text has the new name. No
 * other file has an old name. Version 0.2 will remove this file. Plain C. */
#ifndef CROSSDOCK_RETIRED_NAMES_H
#define CROSSDOCK_RETIRED_NAMES_H

/* members of a config: in Python's keywords, in files of cases and of tuning */
#define XD_RETIRED_MEMBERS(X)              \
  X(max_tokens, max_tokens_per_rank)       \
  X(combine_wire, combine_quant)           \
  X(combine_weights, combine_topk_weights) \
  X(in_flight, max_in_flight)              \
  X(kept_plans, max_kept_plans)            \
  X(pieces, splits_per_row)

/* values of combine_quant */
#define XD_RETIRED_QUANTS(X) \
  X(own, none)               \
  X(fp8_block128, fp8_blockwise)

/* keys of JSON lines that `crossdock bench` and `crossdock trace` write */
#define XD_RETIRED_KEYS(X)                    \
  X(wire, combine_quant)                      \
  X(pieces, splits_per_row)                   \
  X(launched_pieces, launched_splits_per_row) \
  X(decided_by, tuned_by)                     \
  X(place, buffer_set)

/* Python: a call of Exchange, a keyword argument, its name now */
#define XD_RETIRED_ARGUMENTS(X)                        \
  X(dispatch, rows, x)                                 \
  X(dispatch, ids, topk_ids)                           \
  X(dispatch, weights, topk_weights)                   \
  X(dispatch, pieces, splits_per_row)                  \
  X(combine, weights, topk_weights)                    \
  X(combine, with_weights, combine_topk_weights)       \
  X(combine, out_weights, out_topk_weights)            \
  X(combine, pieces, splits_per_row)                   \
  X(combine_fused, with_weights, combine_topk_weights) \
  X(combine_fused, out_weights, out_topk_weights)      \
  X(combine_fused, pieces, splits_per_row)

/* Python: a class or module, an attribute, what serves now */
#define XD_RETIRED_ATTRIBUTES(X)                            \
  X("Received", "ids", "Received.topk_ids")                 \
  X("Received", "token_weights", "Received.topk_weights")   \
  X("Received", "keep", "Received.retain_plan")             \
  X("Received", "landing_rows", "Received.combine_slots")   \
  X("crossdock", "Bill", "crossdock.MemoryUsage")           \
  X("crossdock", "Team", "crossdock.ThreadTeam")            \
  X("crossdock", "WIRES", "crossdock.COMBINE_QUANTS")       \
  X("crossdock", "beside", "crossdock.bench_overlap")       \
  X("crossdock", "supports", "Config.supports")             \
  X("crossdock", "memory", "Config.memory")                 \
  X("crossdock", "fit", "Config.fit")                       \
  X("crossdock", "union", "Config.union")                   \
  X("crossdock", "received_shape", "Config.received_shape") \
  X("crossdock", "token_capacity", "Config.token_capacity") \
  X("crossdock.torch", "Sent", "crossdock.torch.DispatchOutput")

/* environment variables */
#define XD_RETIRED_ENVIRONMENT(X) X(CROSSDOCK_SHARE, CROSSDOCK_IPC)
#endif
