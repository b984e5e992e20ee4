/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface: opaque handles, structs that start with their size, and a status code from every call. Shapes,
 * dtypes, ownership, streams and lifetimes are those of exchange.hpp. No exception leaves a function. */
#ifndef CROSSDOCK_H
#define CROSSDOCK_H

#include <stddef.h>
#include <stdint.h>

#include "crossdock/lists.h"

#ifdef __cplusplus
extern "C" {
#endif

#define XD_API __attribute__((visibility("default")))

#define XD_C_DTYPE(name, NAME, ...) XD_##NAME,
typedef enum { XD_DTYPES(XD_C_DTYPE) XD_NUM_DTYPES } xd_dtype;
#define XD_C_LAYOUT(name, NAME, ...) XD_LAYOUT_##NAME,
typedef enum { XD_LAYOUTS(XD_C_LAYOUT) XD_NUM_LAYOUTS } xd_layout;
#define XD_C_COMBINE_QUANT(name, NAME, ...) XD_COMBINE_QUANT_##NAME,
typedef enum { XD_COMBINE_QUANTS(XD_C_COMBINE_QUANT) XD_NUM_COMBINE_QUANTS } xd_combine_quant;
#define XD_C_OVERFLOW(name, NAME, ...) XD_OVERFLOW_##NAME,
typedef enum { XD_OVERFLOWS(XD_C_OVERFLOW) XD_NUM_OVERFLOWS } xd_overflow;
#define XD_C_STATUS(name, NAME, ...) XD_STATUS_##NAME,
typedef enum { XD_STATUSES(XD_C_STATUS) XD_NUM_STATUSES } xd_status;
#define XD_C_BACKEND(name, NAME, ...) XD_BACKEND_##NAME,
typedef enum { XD_BACKENDS(XD_C_BACKEND) XD_NUM_BACKENDS } xd_backend;

typedef struct xd_thread_team xd_thread_team; /* joins threads of one process */
typedef struct xd_group xd_group;
typedef struct xd_exchange xd_exchange;
typedef struct xd_received xd_received;
typedef struct xd_plan xd_plan;

/* XD_INIT(x) clears a struct and sets its `size`. Calls compare the size with that of the library and refuse structs of
 * another version: recompile after an update. xd_counts and xd_row_source have no size, because only the library
 * allocates them. */
#define XD_INIT(x)                                                           \
  do {                                                                       \
    unsigned char* xd_bytes_ = (unsigned char*)&(x);                         \
    for (size_t xd_i_ = 0; xd_i_ < sizeof(x); ++xd_i_) xd_bytes_[xd_i_] = 0; \
    (x).size = sizeof(x);                                                    \
  } while (0)

/* crossdock::Config documents the members. */
typedef struct {
  size_t size;
  /* shape */
  int32_t hidden, num_experts, top_k, max_tokens_per_rank;
  /* dtypes */
  int32_t dispatch_dtype, combine_dtype; /* xd_dtype */
  int32_t combine_quant;                 /* xd_combine_quant */
  int32_t scale_bytes;
  /* layout */
  int32_t layout; /* xd_layout */
  int64_t row_capacity, expert_capacity;
  int32_t alignment; /* 0 means 1 */
  int32_t zero_padding;
  int32_t overflow; /* xd_overflow */
  /* memory */
  int32_t zero_copy, fused, combine_topk_weights;
  int32_t max_in_flight;  /* 0 means 1 */
  int32_t max_kept_plans; /* 0 means none, although the default of crossdock::Config is 1 */
  /* launch geometry of every call; 0: not set */
  int32_t num_sms, num_blocks, num_warps, splits_per_row;
} xd_config;

/* Null, or a struct that only XD_INIT has set, selects the defaults. */
typedef struct {
  size_t size;
  int32_t backend;       /* xd_backend */
  int32_t choose_device; /* 0: the current device; 1: `device` */
  int32_t device;
  int64_t deadline_ms;     /* 0: CROSSDOCK_DEADLINE_MS; negative: no limit */
  const char* tuning_file; /* null: CROSSDOCK_TUNING_FILE */
  /* SMs that waiting kernels leave to others, see crossdock::GroupOptions; equal on all ranks */
  int32_t max_concurrent_calls; /* 0: 2 */
  int32_t choose_reserved_sms;  /* 0: min(32, SMs / 4); 1: `reserved_sms` */
  int32_t reserved_sms;
} xd_group_options;

/* crossdock::DispatchInput and CallOptions. */
typedef struct {
  size_t size;
  const void* tokens;   /* [T, hidden] of dispatch_dtype */
  const void* topk_ids; /* [T, k] int32 or int64; -1: not routed */
  int32_t topk_ids_are_int64;
  const float* topk_weights;           /* [T, k]; null: each weight is 1 */
  const void* scales;                  /* [T, scale_bytes] */
  int32_t num_tokens;                  /* T */
  const int32_t* num_tokens_on_device; /* T in device memory, or null */
  void* stream;
  int32_t num_sms, num_blocks, num_warps, splits_per_row; /* 0: not set */
} xd_dispatch_input;

/* crossdock::CombineInput, CombineOutput and CallOptions. */
typedef struct {
  size_t size;
  const void* rows; /* expert outputs; not read by xd_combine_fused */
  int32_t combine_topk_weights;
  const float* topk_weights; /* [row_capacity, k]; null: the dispatched weights */
  void* out_rows;            /* [T, hidden] of combine_dtype */
  float* out_topk_weights;   /* [T, k], or null */
  int32_t num_tokens;        /* xd_combine_fused: T, or -1 for the plan's T; xd_combine: not read */
  void* stream;
  int32_t num_sms, num_blocks, num_warps, splits_per_row; /* 0: not set */
} xd_combine_input;

typedef struct {
  int32_t rank, token, combine_slot, reserved;
} xd_row_source;

/* What a dispatch delivered: device pointers to memory of the library, null where the config has no such part. Members
 * are those of crossdock::TokenRows, ExpertRows, CombineBuffer and Received. */
typedef struct {
  size_t size;
  void* rows;                   /* [row_capacity, hidden] of dispatch_dtype */
  const void* scales;           /* [row_capacity, scale_bytes] */
  const int32_t* topk_ids;      /* [row_capacity, k] */
  const float* topk_weights;    /* [row_capacity, k] */
  const xd_row_source* sources; /* [row_capacity] */
  int64_t row_capacity;
  int32_t first_expert, num_local_experts;
  const void* counts;                  /* xd_counts */
  const int32_t* expert_counts;        /* [num_local_experts] */
  void* expert_rows;                   /* [expert_rows_max, hidden] of dispatch_dtype */
  const void* expert_scales;           /* [expert_rows_max, scale_bytes] */
  const float* expert_weights;         /* [expert_rows_max] */
  const xd_row_source* expert_sources; /* [expert_rows_max] */
  const int32_t* expert_offsets;       /* [num_local_experts + 1] */
  int64_t expert_rows_max;
  int64_t expert_capacity; /* expert_major: rows per expert; contiguous: 0 */
  void* combine_rows;      /* [combine_rows_max, hidden] of combine_dtype */
  int64_t combine_rows_max;
} xd_view;

/* crossdock::Counts. */
typedef struct {
  int64_t num_rows, rows_needed;
  int64_t rows_per_source[XD_MAX_RANKS], dropped_per_source[XD_MAX_RANKS];
  int64_t num_tokens, bad_ids, expert_rows_needed, expert_rows_dropped;
} xd_counts;

/* crossdock::Status. */
typedef struct {
  size_t size;
  int32_t code; /* xd_status */
  int32_t rank, peer;
  uint64_t epoch_expected, epoch_seen;
  int32_t fatal;
  char text[512];
} xd_report;

/* Gathers `bytes` bytes from each rank: writes num_ranks * bytes bytes to `all`, in rank order. Returns 0 on success.
 * Called when the group joins and when an exchange is created; the function and `user` must be valid then. */
typedef int (*xd_all_gather)(const void* mine, size_t bytes, void* all, void* user);

/* Text of the last failure in this thread; valid until the next call of this thread. */
XD_API const char* xd_last_error(void);
XD_API const char* xd_version(void); /* "major.minor.patch", static storage */

/* The caller owns every handle that a call returns: destroy it once, in any order, at any time (see
 * crossdock::Exchange). Destroying null is legal. A call that fails writes none of its outputs. */
XD_API xd_status xd_thread_team_create(int32_t num_ranks, xd_thread_team** team);
XD_API void xd_thread_team_destroy(xd_thread_team* team);

XD_API xd_status xd_group_join_thread_team(const xd_thread_team* team, int32_t rank, const xd_group_options* options,
                                           xd_group** group);
XD_API xd_status xd_group_join(int32_t rank, int32_t num_ranks, xd_all_gather all_gather, void* user,
                               const xd_group_options* options, xd_group** group);
XD_API xd_status xd_group_rendezvous(const char* name, int32_t rank, int32_t num_ranks, const xd_group_options* options,
                                     xd_group** group);
XD_API xd_status xd_group_abort(xd_group* group, const char* reason);
XD_API xd_status xd_group_set_deadline(xd_group* group, int64_t deadline_ms); /* 0: no limit; negative: usage */
XD_API void xd_group_destroy(xd_group* group);

/* XD_STATUS_OK if a group of `num_ranks` can run `config`, else XD_STATUS_CONFIG with the reason in xd_last_error(). */
XD_API xd_status xd_supports(const xd_config* config, int32_t num_ranks);
/* Bytes that one rank of an exchange with `config` allocates, exactly. */
XD_API xd_status xd_memory(const xd_config* config, int32_t num_ranks, int32_t backend, uint64_t* bytes);

XD_API xd_status xd_exchange_create(xd_group* group, const xd_config* config, xd_exchange** exchange);
/* Writes what crossdock::Exchange::poll finds to `report`. Returns XD_STATUS_OK unless an argument is wrong, whatever
 * report->code is. If `clear` is not 0, drops all reports that are not fatal afterwards. */
XD_API xd_status xd_exchange_poll(xd_exchange* exchange, int32_t clear, xd_report* report);
XD_API void xd_exchange_destroy(xd_exchange* exchange);

/* `plan` null: routes by topk_ids. Otherwise repeats the routing of the plan; ids and weights are not read. */
XD_API xd_status xd_dispatch(xd_exchange* exchange, const xd_plan* plan, const xd_dispatch_input* input,
                             xd_received** received);
/* One of `received` and `plan` is given, the other is null. On success `*received` is freed and set to null. */
XD_API xd_status xd_combine(xd_exchange* exchange, xd_received** received, const xd_plan* plan,
                            const xd_combine_input* input);
XD_API xd_status xd_combine_fused(xd_exchange* exchange, xd_received** received, const xd_combine_input* input);

/* Writes pointers to `view`; crossdock::Received says how long they stay valid. */
XD_API xd_status xd_received_view(const xd_received* received, xd_view* view);
/* Writes the address of the combine slots of home rank `rank` to `rows`: crossdock::Received::combine_slots. */
XD_API xd_status xd_received_combine_slots(const xd_received* received, int32_t rank, void** rows);
XD_API xd_status xd_received_retain_plan(xd_received* received, xd_plan** plan);
XD_API void xd_received_destroy(xd_received* received);
XD_API void xd_plan_destroy(xd_plan* plan);

#ifdef __cplusplus
}
#endif

#endif
