/* SPDX-License-Identifier: Apache-2.0 */
/* The C border of the installed package: one token to itself and back, in C11. Prints the version. */
#include <stdio.h>
#include <string.h>

#include "crossdock/crossdock.h"

static int check(xd_status status) {
  if (status != XD_STATUS_OK) fprintf(stderr, "status %d: %s\n", (int)status, xd_last_error());
  return status == XD_STATUS_OK;
}

int main(void) {
  xd_thread_team* team = NULL;
  xd_group* group = NULL;
  xd_exchange* exchange = NULL;
  xd_received* received = NULL;
  _Alignas(16) const float row[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  _Alignas(16) float back[8] = {0};
  const int32_t expert = 1;

  xd_group_options options;
  XD_INIT(options);
  options.backend = XD_BACKEND_CPU;
  xd_config config;
  XD_INIT(config);
  config.hidden = 8;
  config.num_experts = 2;
  config.top_k = config.max_tokens_per_rank = 1;
  config.dispatch_dtype = config.combine_dtype = XD_F32;
  xd_dispatch_input tokens;
  XD_INIT(tokens);
  tokens.tokens = row;
  tokens.topk_ids = &expert;
  tokens.num_tokens = 1;
  xd_view view;
  XD_INIT(view);
  xd_combine_input results;
  XD_INIT(results);
  results.out_rows = back;

  int ok = check(xd_thread_team_create(1, &team)) && check(xd_group_join_thread_team(team, 0, &options, &group)) &&
           check(xd_exchange_create(group, &config, &exchange)) &&
           check(xd_dispatch(exchange, NULL, &tokens, &received)) && check(xd_received_view(received, &view));
  results.rows = view.rows;
  ok = ok && check(xd_combine(exchange, &received, NULL, &results)) && memcmp(back, row, sizeof row) == 0;
  xd_exchange_destroy(exchange);
  xd_group_destroy(group);
  xd_thread_team_destroy(team);
  puts(xd_version());
  return ok ? 0 : 1;
}
