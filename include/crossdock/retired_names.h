/* SPDX-License-Identifier: Apache-2.0 */
/* Names from before version 0.1, each with its successor. A call that gets an old name raises an error with the new one.
 * Version 0.2 removes this file. No other source repeats an old name. Plain C. */
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

/* keyword arguments of Exchange.dispatch, combine and combine_fused in Python */
#define XD_RETIRED_ARGUMENTS(X)         \
  X(ids, topk_ids)                      \
  X(weights, topk_weights)              \
  X(with_weights, combine_topk_weights) \
  X(out_weights, out_topk_weights)      \
  X(pieces, splits_per_row)

/* environment variables */
#define XD_RETIRED_ENVIRONMENT(X) X(CROSSDOCK_SHARE, CROSSDOCK_IPC)
#endif
