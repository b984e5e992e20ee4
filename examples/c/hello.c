/* SPDX-License-Identifier: Apache-2.0 */
/* Two ranks as threads, through the C border: one token each to both ranks, results come home summed. Every call returns
 * a status; the text behind it is xd_last_error() of the same thread. */
#include <crossdock/crossdock.h>
#include <pthread.h>
#include <stdio.h>

enum { kRanks = 2, kHidden = 8, kExperts = 4, kTopk = 2 };

struct rank_args {
  const xd_thread_team* team;
  int rank;
  int right;
};

static int failed(xd_status status) {
  if (status != XD_STATUS_OK) fprintf(stderr, "%s\n", xd_last_error());
  return status != XD_STATUS_OK;
}

/* dispatch, the expert step, combine; 0 on success. */
static int exchange_one(xd_exchange* exchange, int rank, const float* token, float* result) {
  static const int32_t ids[kTopk] = {0, 2}; /* expert 0 lives on rank 0, expert 2 on rank 1 */
  xd_dispatch_input in;
  xd_combine_input back;
  xd_view view;
  xd_report report;
  xd_received* received = NULL;

  XD_INIT(in);
  in.tokens = token;
  in.topk_ids = ids;
  in.num_tokens = 1;
  if (failed(xd_dispatch(exchange, NULL, &in, &received))) return 1;

  XD_INIT(view);
  if (failed(xd_received_view(received, &view))) return 1;
  float* rows = view.rows;
  for (int64_t i = 0; i < ((const xd_counts*)view.counts)->num_rows * kHidden; ++i) rows[i] *= (float)(rank + 1);

  XD_INIT(back);
  back.rows = rows;
  back.out_rows = result;
  if (failed(xd_combine(exchange, &received, NULL, &back))) return 1; /* consumes received */

  XD_INIT(report);
  if (failed(xd_exchange_poll(exchange, 0, &report))) return 1;
  if (report.code != XD_STATUS_OK) fprintf(stderr, "%s\n", report.text);
  return report.code != XD_STATUS_OK;
}

static void* run_rank(void* pointer) {
  struct rank_args* args = pointer;
  xd_group* group = NULL;
  xd_exchange* exchange = NULL;
  _Alignas(16) float token[kHidden], result[kHidden] = {0};
  for (int i = 0; i < kHidden; ++i) token[i] = (float)(10 * (args->rank + 1) + i);

  xd_group_options options;
  XD_INIT(options);
  options.backend = XD_BACKEND_CPU;

  xd_config config;
  XD_INIT(config);
  config.hidden = kHidden;
  config.num_experts = kExperts;
  config.top_k = kTopk;
  config.max_tokens_per_rank = 1;
  config.dispatch_dtype = config.combine_dtype = XD_F32;

  if (!failed(xd_group_join_thread_team(args->team, args->rank, &options, &group)) &&
      !failed(xd_exchange_create(group, &config, &exchange)) &&
      exchange_one(exchange, args->rank, token, result) == 0) {
    args->right = 1;
    for (int i = 0; i < kHidden; ++i)
      args->right &= result[i] == 3 * token[i]; /* once from rank 0, twice from rank 1 */
    printf("rank %d: sent %g %g ..., got back %g %g ...: %s\n", args->rank, token[0], token[1], result[0], result[1],
           args->right ? "right" : "WRONG");
  }
  xd_exchange_destroy(exchange); /* null is legal; the order is free */
  xd_group_destroy(group);
  return NULL;
}

int main(void) {
  xd_thread_team* team = NULL;
  pthread_t threads[kRanks];
  struct rank_args args[kRanks];
  printf("Crossdock %s\n", xd_version());
  if (failed(xd_thread_team_create(kRanks, &team))) return 1;
  for (int r = 0; r < kRanks; ++r) {
    args[r] = (struct rank_args){team, r, 0};
    if (pthread_create(&threads[r], NULL, run_rank, &args[r]) != 0) return 1;
  }
  int right = 1;
  for (int r = 0; r < kRanks; ++r) {
    pthread_join(threads[r], NULL);
    right &= args[r].right;
  }
  xd_thread_team_destroy(team);
  return right ? 0 : 1;
}
