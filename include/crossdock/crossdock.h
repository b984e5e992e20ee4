/* SPDX-License-Identifier: Apache-2.0 */
/* Crossdock for C and for bindings: opaque handles, sized structs, a status code from every call and a text behind it.
 * Shapes, ownership and life times are those of exchange.hpp. No C++ type crosses this border, no exception leaves it. */
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

typedef struct xd_thread_team xd_thread_team; /* meeting point of threads */
typedef struct xd_group xd_group;
typedef struct xd_exchange xd_exchange;
typedef struct xd_received xd_received;
typedef struct xd_plan xd_plan;

/* Every struct that a call takes or fills starts with its size; XD_INIT(x) clears and sizes it. A size of another version
 * is refused: recompile after an update. xd_counts and xd_row_source lie in the library's memory and have none. */
#define XD_INIT(x)                                                           \
  do {                                                                       \
    unsigned char* xd_bytes_ = (unsigned char*)&(x);                         \
    for (size_t xd_i_ = 0; xd_i_ < sizeof(x); ++xd_i_) xd_bytes_[xd_i_] = 0; \
    (x).size = sizeof(x);                                                    \
  } while (0)

typedef struct {
  size_t size;
  int32_t hidden, num_experts, top_k, max_tokens_per_rank;
  int32_t dispatch_dtype, combine_dtype; /* xd_dtype */
  int32_t combine_quant;                 /* xd_combine_quant */
  int32_t scale_bytes;
  int32_t layout; /* xd_layout */
  int64_t row_capacity, expert_capacity;
  int32_t alignment; /* 0 is taken as 1 */
  int32_t zero_padding;
  int32_t overflow; /* xd_overflow */
  int32_t zero_copy, fused, combine_topk_weights;
  int32_t max_in_flight;                                  /* 0 is taken as 1 */
  int32_t max_kept_plans;                                 /* 0: none, unlike the C++ default of 1 */
  int32_t num_sms, num_blocks, num_warps, splits_per_row; /* geometry of every call; 0: not chosen */
} xd_config;

typedef struct {
  size_t size;
  int32_t backend;       /* xd_backend */
  int32_t choose_device; /* 0: the current device; 1: `device` */
  int32_t device;
  int64_t deadline_ms;     /* 0: CROSSDOCK_DEADLINE_MS; negative: no limit */
  const char* tuning_file; /* null: CROSSDOCK_TUNING_FILE */
} xd_group_options;        /* null where a call takes it, or cleared: the defaults */

typedef struct {
  size_t size;
  const void* tokens;
  const void* topk_ids;
  int32_t topk_ids_are_int64;
  const float* topk_weights;
  const void* scales;
  int32_t num_tokens;
  const int32_t* num_tokens_on_device;
  void* stream;
  int32_t num_sms, num_blocks, num_warps, splits_per_row; /* 0: not chosen */
} xd_dispatch_input;

typedef struct {
  size_t size;
  const void* rows; /* not read by xd_combine_fused */
  int32_t combine_topk_weights;
  const float* topk_weights;
  void* out_rows;
  float* out_topk_weights;
  int32_t num_tokens; /* xd_combine_fused: T, -1 = of the plan; else ignored */
  void* stream;
  int32_t num_sms, num_blocks, num_warps, splits_per_row; /* 0: not chosen */
} xd_combine_input;

typedef struct {
  int32_t rank, token, combine_slot, reserved;
} xd_row_source;

/* What a dispatch delivered; device pointers into memory of the library. Null where the config has no such part. */
typedef struct {
  size_t size;
  void* rows;
  const void* scales;
  const int32_t* topk_ids;
  const float* topk_weights;
  const xd_row_source* sources;
  int64_t row_capacity;
  int32_t first_expert, num_local_experts;
  const void* counts; /* xd_counts */
  const int32_t* expert_counts;
  void* expert_rows;
  const void* expert_scales;
  const float* expert_weights;
  const xd_row_source* expert_sources;
  const int32_t* expert_offsets;
  int64_t expert_rows_max, expert_capacity;
  void* combine_rows;
  int64_t combine_rows_max;
} xd_view;

typedef struct {
  int64_t num_rows, rows_needed;
  int64_t rows_per_source[XD_MAX_RANKS], dropped_per_source[XD_MAX_RANKS];
  int64_t num_tokens, bad_ids, expert_rows_needed, expert_rows_dropped;
} xd_counts;

typedef struct {
  size_t size;
  int32_t code; /* xd_status */
  int32_t rank, peer;
  uint64_t epoch_expected, epoch_seen;
  int32_t fatal;
  char text[512];
} xd_report;

/* Collects `bytes` bytes of every rank into `all`; 0 on success. It and `user` must live until the last exchange is made. */
typedef int (*xd_all_gather)(const void* mine, size_t bytes, void* all, void* user);

/* Text of the last failure in this thread; valid until the next call of this thread. */
XD_API const char* xd_last_error(void);
XD_API const char* xd_version(void);

/* A handle given out is the caller's: destroy it once, in any order, at any time (see crossdock::Exchange). Null is
 * legal. A call that fails writes none of its outputs. */
XD_API xd_status xd_thread_team_create(int32_t num_ranks, xd_thread_team** team);
XD_API void xd_thread_team_destroy(xd_thread_team* team);

XD_API xd_status xd_group_join_thread_team(const xd_thread_team* team, int32_t rank, const xd_group_options* options,
                                           xd_group** group);
XD_API xd_status xd_group_join(int32_t rank, int32_t num_ranks, xd_all_gather all_gather, void* user,
                               const xd_group_options* options, xd_group** group);
XD_API xd_status xd_group_rendezvous(const char* name, int32_t rank, int32_t num_ranks, const xd_group_options* options,
                                     xd_group** group);
XD_API xd_status xd_group_abort(xd_group* group, const char* reason);
XD_API xd_status xd_group_set_deadline(xd_group* group, int64_t deadline_ms); /* 0: no limit */
XD_API void xd_group_destroy(xd_group* group);

/* XD_STATUS_OK, or XD_STATUS_CONFIG with the reason in xd_last_error(). No side effect. */
XD_API xd_status xd_supports(const xd_config* config, int32_t num_ranks);
/* Bytes that one rank takes; exact. */
XD_API xd_status xd_memory(const xd_config* config, int32_t num_ranks, int32_t backend, uint64_t* bytes);

XD_API xd_status xd_exchange_create(xd_group* group, const xd_config* config, xd_exchange** exchange);
/* OK if it could ask; what it found is report->code. `clear` forgets all reports that are not fatal. */
XD_API xd_status xd_exchange_poll(xd_exchange* exchange, int32_t clear, xd_report* report);
XD_API void xd_exchange_destroy(xd_exchange* exchange);

/* `plan` null: route; else replay. */
XD_API xd_status xd_dispatch(xd_exchange* exchange, const xd_plan* plan, const xd_dispatch_input* input,
                             xd_received** received);
/* Either `received` (consumed on success: the handle is then freed and set to null) or `plan`. */
XD_API xd_status xd_combine(xd_exchange* exchange, xd_received** received, const xd_plan* plan,
                            const xd_combine_input* input);
XD_API xd_status xd_combine_fused(xd_exchange* exchange, xd_received** received, const xd_combine_input* input);

XD_API xd_status xd_received_view(const xd_received* received, xd_view* view);
XD_API xd_status xd_received_combine_slots(const xd_received* received, int32_t rank, void** rows);
XD_API xd_status xd_received_retain_plan(xd_received* received, xd_plan** plan);
XD_API void xd_received_destroy(xd_received* received);
XD_API void xd_plan_destroy(xd_plan* plan);

#ifdef __cplusplus
}
#endif

#endif
