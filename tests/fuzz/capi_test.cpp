// SPDX-License-Identifier: Apache-2.0
// The C border under abuse: nulls, wrong sizes, numbers that are no enumerators. Whatever comes, a status and a text come
// back. Handles and data pointers are null, or real; a border cannot tell a wild pointer from a real one.
#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "crossdock/crossdock.h"
#include "fuzz/fuzz.hpp"
#include "platform/cpu/sanitizers.hpp"

namespace crossdock::testing {
namespace {

/// An int32 from the ends and the middle of its range.
std::int32_t wild_int(Draw& draw) {
  constexpr std::int32_t kWild[] = {0,
                                    1,
                                    -1,
                                    2,
                                    3,
                                    8,
                                    9,
                                    16,
                                    64,
                                    65,
                                    255,
                                    256,
                                    -128,
                                    1 << 20,
                                    1 << 24,
                                    std::numeric_limits<std::int32_t>::max(),
                                    std::numeric_limits<std::int32_t>::min()};
  return draw.one_in(4) ? static_cast<std::int32_t>(draw.word()) : draw.of(kWild);
}

/// Overwrites one of the words of a struct behind its size; at times the size too.
template <class T>
void spoil(Draw& draw, T& value) {
  if (draw.one_in(3)) return;
  if (draw.one_in(8)) value.size = draw.one_in(2) ? 0 : draw.word();
}

xd_config good_config() {
  xd_config c;
  XD_INIT(c);
  c.hidden = 64;
  c.num_experts = 4;
  c.top_k = 2;
  c.max_tokens_per_rank = 8;
  c.combine_topk_weights = 1;
  c.max_kept_plans = 2;
  return c;
}

xd_config wild_config(Draw& draw) {
  xd_config c = good_config();
  std::int32_t* const members[] = {&c.hidden,
                                   &c.num_experts,
                                   &c.top_k,
                                   &c.max_tokens_per_rank,
                                   &c.dispatch_dtype,
                                   &c.combine_dtype,
                                   &c.combine_quant,
                                   &c.scale_bytes,
                                   &c.layout,
                                   &c.alignment,
                                   &c.zero_padding,
                                   &c.overflow,
                                   &c.zero_copy,
                                   &c.fused,
                                   &c.combine_topk_weights,
                                   &c.max_in_flight,
                                   &c.max_kept_plans};
  for (int n = draw.below(4); n > 0; --n) *draw.of(members) = wild_int(draw);
  if (draw.one_in(5)) c.row_capacity = draw.one_in(2) ? wild_int(draw) : static_cast<std::int64_t>(draw.word());
  if (draw.one_in(5)) c.expert_capacity = draw.one_in(2) ? wild_int(draw) : static_cast<std::int64_t>(draw.word());
  spoil(draw, c);
  return c;
}

/// A group of one rank and what hangs on it; parts may be missing.
struct World {
  xd_thread_team* team = nullptr;
  xd_group* group = nullptr;
  xd_exchange* exchange = nullptr;
  xd_received* received = nullptr;
  xd_plan* plan = nullptr;
  alignas(64) std::uint8_t rows[8 * 256 * 4] = {};
  alignas(64) std::int64_t ids[8 * 64] = {};
  alignas(64) float weights[8 * 64] = {};
  alignas(64) std::uint8_t results[1 << 20] = {};
  std::int32_t tokens = 3;

  World() {
    xd_group_options options;
    XD_INIT(options);
    options.backend = XD_BACKEND_CPU;
    options.deadline_ms = 200;
    const xd_config config = good_config();
    EXPECT_EQ(xd_thread_team_create(1, &team), XD_STATUS_OK);
    EXPECT_EQ(xd_group_join_thread_team(team, 0, &options, &group), XD_STATUS_OK) << xd_last_error();
    EXPECT_EQ(xd_exchange_create(group, &config, &exchange), XD_STATUS_OK) << xd_last_error();
  }
  ~World() {
    xd_plan_destroy(plan);
    xd_received_destroy(received);
    xd_exchange_destroy(exchange);
    xd_group_destroy(group);
    xd_thread_team_destroy(team);
  }

  template <class T>
  T* maybe(Draw& draw, T* pointer) {
    return draw.one_in(6) ? nullptr : pointer;
  }
  const void* data(Draw& draw, const void* pointer) {
    return draw.one_in(6) ? nullptr
                          : static_cast<const std::uint8_t*>(pointer) + (draw.one_in(6) ? 1 + draw.below(15) : 0);
  }
};

/// A status must be one of the list, and a refusal has a text.
void expect_answer(xd_status status, const char* call) {
  ASSERT_TRUE(status >= XD_STATUS_OK && status < XD_NUM_STATUSES) << call << " " << status;
  ASSERT_TRUE(status == XD_STATUS_OK || xd_last_error()[0] != 0) << call;
}

void abuse_groups(Draw& draw, World& w) {
  xd_thread_team* team = nullptr;
  expect_answer(xd_thread_team_create(draw.one_in(2) ? 1 + draw.below(2) : wild_int(draw), w.maybe(draw, &team)),
                "xd_thread_team_create");
  xd_group_options options;
  XD_INIT(options);
  options.backend = draw.one_in(3) ? wild_int(draw) : XD_BACKEND_CPU;
  options.choose_device = draw.one_in(2);
  options.device = wild_int(draw);
  options.deadline_ms = 1 + draw.below(3);  // nobody else will come
  spoil(draw, options);
  xd_group* group = nullptr;
  const std::int32_t rank = draw.one_in(2) ? 0 : wild_int(draw), ranks = draw.one_in(2) ? 1 : wild_int(draw);
  const auto gather = [](const void* mine, size_t bytes, void* all, void* user) {
    if (user) return 7;
    std::memcpy(all, mine, bytes);
    return 0;
  };
  switch (draw.below(3)) {
    case 0:
      expect_answer(xd_group_join_thread_team(w.maybe(draw, team), rank, &options, w.maybe(draw, &group)), "join_team");
      break;
    case 1:
      expect_answer(xd_group_join(rank, ranks, draw.one_in(5) ? nullptr : +gather, ranks == 1 ? nullptr : &w, &options,
                                  w.maybe(draw, &group)),
                    "xd_group_join");
      break;
    default: {
      const std::string names[] = {"", "a/b", std::string(65, 'x'), "..", "fuzz-" + std::to_string(draw.word())};
      expect_answer(xd_group_rendezvous(draw.one_in(6) ? nullptr : draw.of(names).c_str(), rank, ranks, &options,
                                        w.maybe(draw, &group)),
                    "xd_group_rendezvous");
    }
  }
  expect_answer(
      xd_group_set_deadline(w.maybe(draw, group), draw.one_in(2) ? 100 : static_cast<std::int64_t>(draw.word())),
      "xd_group_set_deadline");
  if (draw.one_in(2)) expect_answer(xd_group_abort(group, draw.one_in(2) ? nullptr : "reason"), "xd_group_abort");
  xd_group_destroy(group);
  xd_thread_team_destroy(team);
}

void abuse_configs(Draw& draw, World& w) {
  const xd_config config = wild_config(draw);
  const xd_config* given = w.maybe(draw, &config);
  expect_answer(xd_supports(given, draw.one_in(2) ? 1 : wild_int(draw)), "xd_supports");
  std::uint64_t bytes = ~std::uint64_t{0};
  const std::int32_t backend = draw.one_in(2) ? XD_BACKEND_CPU : wild_int(draw);
  const xd_status told = xd_memory(given, 1, backend, w.maybe(draw, &bytes));
  expect_answer(told, "xd_memory");
  if (told == XD_STATUS_OK && bytes > (std::uint64_t{1} << 24)) return;  // it would be given
  xd_exchange* exchange = nullptr;
  expect_answer(xd_exchange_create(w.maybe(draw, w.group), given, w.maybe(draw, &exchange)), "xd_exchange_create");
  xd_exchange_destroy(exchange);
}

void abuse_dispatch(Draw& draw, World& w) {
  xd_dispatch_input in;
  XD_INIT(in);
  in.tokens = w.data(draw, w.rows);
  in.topk_ids = w.data(draw, w.ids);
  in.topk_ids_are_int64 = draw.below(3);
  in.topk_weights = static_cast<const float*>(w.data(draw, w.weights));
  in.scales = w.data(draw, w.rows);
  in.num_tokens = draw.one_in(2) ? draw.below(9) : wild_int(draw);
  w.tokens = draw.one_in(2) ? draw.below(9) : wild_int(draw);
  if (draw.one_in(4)) in.num_tokens_on_device = &w.tokens;
  for (std::int64_t& id : w.ids) id = draw.one_in(20) ? static_cast<std::int64_t>(draw.word()) : draw.below(5) - 1;
  for (std::int32_t* member : {&in.num_sms, &in.num_blocks, &in.num_warps, &in.splits_per_row})
    if (draw.one_in(2)) *member = wild_int(draw);
  if (draw.one_in(10)) in.stream = reinterpret_cast<void*>(draw.word());
  spoil(draw, in);
  xd_received* received = nullptr;
  expect_answer(xd_dispatch(w.maybe(draw, w.exchange), draw.one_in(2) ? nullptr : w.plan, w.maybe(draw, &in),
                            w.maybe(draw, &received)),
                "xd_dispatch");
  if (!received) return;
  xd_received_destroy(w.received);
  w.received = received;
}

void abuse_combine(Draw& draw, World& w) {
  xd_combine_input in;
  XD_INIT(in);
  in.rows = w.data(draw, w.results);
  in.combine_topk_weights = draw.below(3);
  in.topk_weights = draw.one_in(2) ? nullptr : w.weights;
  in.out_rows = const_cast<void*>(w.data(draw, w.results));
  in.out_topk_weights = static_cast<float*>(const_cast<void*>(w.data(draw, w.weights)));
  in.num_tokens = wild_int(draw);
  for (std::int32_t* member : {&in.num_sms, &in.num_blocks, &in.num_warps, &in.splits_per_row})
    if (draw.one_in(2)) *member = wild_int(draw);
  if (draw.one_in(10)) in.stream = reinterpret_cast<void*>(draw.word());
  spoil(draw, in);
  xd_received** received = draw.one_in(3) ? nullptr : &w.received;
  const xd_plan* plan = draw.one_in(3) ? w.plan : nullptr;
  if (draw.one_in(4))
    expect_answer(xd_combine_fused(w.maybe(draw, w.exchange), received, w.maybe(draw, &in)), "xd_combine_fused");
  else
    expect_answer(xd_combine(w.maybe(draw, w.exchange), received, plan, w.maybe(draw, &in)), "xd_combine");
}

void abuse_received(Draw& draw, World& w) {
  xd_view view;
  XD_INIT(view);
  spoil(draw, view);
  expect_answer(xd_received_view(w.maybe(draw, w.received), w.maybe(draw, &view)), "xd_received_view");
  void* rows = nullptr;
  expect_answer(xd_received_combine_slots(w.maybe(draw, w.received), wild_int(draw), w.maybe(draw, &rows)),
                "combine_slots");
  if (draw.one_in(3)) {
    xd_plan* plan = nullptr;
    expect_answer(xd_received_retain_plan(w.maybe(draw, w.received), w.maybe(draw, &plan)), "xd_received_retain_plan");
    if (plan) xd_plan_destroy(w.plan), w.plan = plan;
  }
  if (draw.one_in(4)) xd_plan_destroy(w.plan), w.plan = nullptr;
  xd_report report;
  XD_INIT(report);
  spoil(draw, report);
  expect_answer(xd_exchange_poll(w.maybe(draw, w.exchange), draw.below(3), w.maybe(draw, &report)), "xd_exchange_poll");
}

TEST(Fuzz, TheCBorder) {
  FuzzRun run(4);
  while (run.more()) {
    World world;
    for (int n = 0; n < 200; ++n) {
      Draw draw(run.next_seed());
      switch (draw.below(8)) {
        case 0:
          abuse_groups(draw, world);
          break;
        case 1:
          abuse_configs(draw, world);
          break;
        case 2:
        case 3:
          abuse_dispatch(draw, world);
          break;
        case 4:
        case 5:
          abuse_combine(draw, world);
          break;
        default:
          abuse_received(draw, world);
      }
      if (HasFatalFailure()) return;
    }
  }
}

/// Each function with every pointer null, by hand: a status, not a crash.
TEST(CBorder, NullsOnly) {
  EXPECT_EQ(xd_thread_team_create(1, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_group_join_thread_team(nullptr, 0, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_group_join(0, 1, nullptr, nullptr, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_group_rendezvous(nullptr, 0, 1, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_group_abort(nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_group_set_deadline(nullptr, 5), XD_STATUS_USAGE);
  EXPECT_EQ(xd_supports(nullptr, 1), XD_STATUS_USAGE);
  EXPECT_EQ(xd_memory(nullptr, 1, XD_BACKEND_CPU, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_exchange_create(nullptr, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_exchange_poll(nullptr, 0, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_dispatch(nullptr, nullptr, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_combine(nullptr, nullptr, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_combine_fused(nullptr, nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_received_view(nullptr, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_received_combine_slots(nullptr, 0, nullptr), XD_STATUS_USAGE);
  EXPECT_EQ(xd_received_retain_plan(nullptr, nullptr), XD_STATUS_USAGE);
  xd_thread_team_destroy(nullptr);
  xd_group_destroy(nullptr);
  xd_exchange_destroy(nullptr);
  xd_received_destroy(nullptr);
  xd_plan_destroy(nullptr);
}

TEST(CBorder, SizesAndEnumeratorsAreNamed) {
  xd_config config = good_config();
  config.size = 4;
  EXPECT_EQ(xd_supports(&config, 1), XD_STATUS_USAGE);
  EXPECT_NE(std::string(xd_last_error()).find("config.size = 4"), std::string::npos) << xd_last_error();
  config = good_config();
  config.layout = 3;
  EXPECT_EQ(xd_supports(&config, 1), XD_STATUS_USAGE);
  EXPECT_NE(std::string(xd_last_error()).find("config.layout = 3; must be 0 to 2"), std::string::npos)
      << xd_last_error();
  config = good_config();
  config.hidden = 65;
  EXPECT_EQ(xd_supports(&config, 1), XD_STATUS_CONFIG);
  EXPECT_NE(std::string(xd_last_error()).find("hidden = 65"), std::string::npos) << xd_last_error();
}

/// A failed call leaves its output and the other arguments alone.
TEST(CBorder, TheCallerKeepsWhatAFailedCallWasGiven) {
  World world;
  xd_dispatch_input in;
  XD_INIT(in);
  xd_received* received = nullptr;
  ASSERT_EQ(xd_dispatch(world.exchange, nullptr, &in, &received), XD_STATUS_OK) << xd_last_error();
  xd_received* const before = received;
  xd_combine_input combine;
  XD_INIT(combine);
  EXPECT_EQ(xd_combine(world.exchange, &received, nullptr, &combine), XD_STATUS_USAGE);  // no rows
  EXPECT_EQ(received, before);
  xd_received* second = nullptr;
  EXPECT_EQ(xd_dispatch(world.exchange, nullptr, &in, &second), XD_STATUS_STATE);  // one is in flight
  EXPECT_EQ(second, nullptr);
  combine.rows = world.rows;
  EXPECT_EQ(xd_combine(world.exchange, &received, nullptr, &combine), XD_STATUS_OK) << xd_last_error();
  EXPECT_EQ(received, nullptr);
}

}  // namespace
}  // namespace crossdock::testing
