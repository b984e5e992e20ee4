// SPDX-License-Identifier: Apache-2.0
#include "op/choose_geometry.hpp"

namespace crossdock::op {
namespace {

using detail::ExchangeState;

/// Merges what the call, the config and the tuning file request. `tuned`: the file's entries for this kind of call.
tuning::Decision decide(const ExchangeState& e, const CallOptions& options, const std::vector<tuning::Entry>& tuned,
                        std::int64_t tokens) {
  return tuning::decide({options.num_sms, options.num_blocks, options.num_warps, options.splits_per_row},
                        {e.config.num_sms, e.config.num_blocks, e.config.num_warps, e.config.splits_per_row},
                        tuning::request_for(tuned, tokens));
}

/// Rows that a kernel moves, and the number of its control blocks, which move none and are launched in addition.
struct Work {
  std::int64_t rows, row_bytes;
  int control_blocks = 0;
};
tuning::Choice choose(const ExchangeState& e, const Work& work, const tuning::GeometryRequest& request,
                      int most_blocks) {
  return tuning::choose(e.limits, work.rows, work.row_bytes, request, most_blocks, work.control_blocks);
}

struct StepsChoice {
  tuning::Choice choice;
  bool in_steps;
};
/// A call in steps is two launches, so that more blocks than may wait move its rows. Steps are chosen only if there are
/// many bytes, or if the request has more blocks than may wait. The CPU has one block; there the request alone decides, so that tests can run steps on it.
StepsChoice choose_steps(const ExchangeState& e, const Work& work, const tuning::GeometryRequest& request,
                         std::int64_t bulk_bytes) {
  const tuning::Choice wide = choose(e, {work.rows, work.row_bytes}, request, e.moving_blocks);
  const bool asked = request.num_blocks > e.waiting_blocks;
  const bool fits = wide.geometry.num_blocks <= e.waiting_blocks && !(asked && e.limits.max_threads == 1);
  if (!fits && (asked || work.rows * work.row_bytes >= bulk_bytes)) return {wide, true};
  return {choose(e, work, request, e.waiting_blocks), false};
}

/// For a kernel of LL packets, which serves small batches. Each warp moves one part of a row. Unless the request sets
/// another number, blocks have 8 warps only, so that a few rows still occupy many multiprocessors. `extra_parts`: work
/// items per row beside its parts; dispatch has one, the row's metadata. work.rows: tokens.
tuning::Choice choose_for_ll(const ExchangeState& e, Work work, int extra_parts, tuning::GeometryRequest request) {
  constexpr int kWarps = 8;
  const int parts = static_cast<int>(
      ceil_div<std::int64_t>(work.row_bytes / 16, std::int64_t{ll_packet::kUnitsPacked} * e.limits.width));
  if (request.num_warps == 0) request.num_warps = kWarps;
  request.splits_per_row = parts + extra_parts;
  work.rows *= e.shape.ranks_per_token;
  tuning::Choice choice = choose(e, work, request, e.waiting_blocks);
  choice.splits_per_row = parts;
  return choice;
}

/// A row of `bytes` bytes in about `count` splits, each a multiple of `grain` units of 16 bytes.
kernels::RowSplits row_splits_of(std::int64_t bytes, int count, int grain) {
  const std::int32_t units = static_cast<std::int32_t>(bytes / 16), each = round_up(ceil_div(units, count), grain);
  return kernels::RowSplits::of(units, each);
}

/// What Exchange::last_launch returns.
LaunchInfo info_of(const ExchangeState& e, const platform::Geometry& geometry, const kernels::RowSplits& splits,
                   TuningSource by, int num_waiting_blocks) {
  return {geometry.num_blocks, geometry.num_threads / e.limits.width, splits.count, by, num_waiting_blocks};
}

/// For the dispatch kernel, which writes to peers.
StepsChoice choose_crossing(const ExchangeState& e, const kernels::DispatchArgs& args, std::int64_t tokens,
                            const tuning::GeometryRequest& request) {
  Work work{tokens, e.shape.row_bytes, kernels::kControlBlocks};
  if (kernels::uses_ll(args)) return {choose_for_ll(e, work, 1, request), false};
  work.control_blocks = tokens <= kernels::kChunk ? kernels::kControlBlocksLatency : 1;
  return choose_steps(e, work, request, tuning::kBulkDispatchBytes);
}

/// For the kernel that copies received rows to their experts. The host does not know how many rows arrive. It assumes
/// that every rank has as many tokens as this one, and sends all of them here.
KernelGeometry choose_expert_rows(const ExchangeState& e, std::int64_t tokens, int num_sms) {
  const std::int64_t rows = min(e.shape.row_capacity, max(tokens, tuning::kLeastTokens) * e.shape.num_ranks);
  const tuning::Choice choice = choose(e, {rows, e.shape.row_bytes, 1}, {.num_sms = num_sms}, e.moving_blocks);
  return {choice.geometry, row_splits_of(e.shape.row_bytes, choice.splits_per_row, 1)};
}

}  // namespace

platform::Geometry one_block(const ExchangeState& e) { return {1, min(256, e.limits.max_threads)}; }

bool in_steps(const ExchangeState& e, const kernels::ExpertRowsArgs& args, const platform::Geometry& geometry) {
  return kernels::waits(args, geometry, e.limits.width) && geometry.num_blocks > e.waiting_blocks;
}

DispatchGeometry choose_dispatch(const ExchangeState& e, const kernels::DispatchArgs& args,
                                 const CallOptions& options) {
  // The most that T can be: the host may not know the T of the device or of a plan.
  const std::int64_t tokens = args.num_tokens_on_device || args.replay ? e.shape.max_tokens_per_rank : args.num_tokens;
  const tuning::Decision decision = decide(e, options, e.tuned_dispatch, tokens);
  const auto [choice, in_steps] = choose_crossing(e, args, tokens, decision.request);
  DispatchGeometry chosen{};
  chosen.in_steps = in_steps;
  chosen.dispatch = {choice.geometry, row_splits_of(e.shape.row_bytes, choice.splits_per_row, 1)};
  if (in_steps) chosen.route = choose(e, {tokens, e.shape.row_bytes, 1}, decision.request, e.waiting_blocks).geometry;
  if (e.shape.layout != Layout::token_major)
    chosen.expert_rows = choose_expert_rows(e, tokens, decision.request.num_sms);
  chosen.info = info_of(e, choice.geometry, chosen.dispatch.splits, decision.by,
                        in_steps ? chosen.route.num_blocks : choice.geometry.num_blocks);
  return chosen;
}

CombineGeometry choose_combine(const ExchangeState& e, const kernels::CombineArgs& args, const CallOptions& options,
                               Path path, std::int64_t tokens) {
  const std::int64_t row_bytes = e.shape.combine_row_bytes;
  const tuning::Decision decision = decide(e, options, e.tuned_combine[static_cast<int>(path)], tokens);
  const bool sends_rows =
      args.source == kernels::Source::slots || (args.source == kernels::Source::peers && args.combine_topk_weights);
  const bool by_expert = e.shape.layout != Layout::token_major;
  const std::int64_t bulk_bytes = by_expert ? tuning::kBulkCombineByExpertBytes : tuning::kBulkCombineBytes;
  const auto [reduce, in_steps] = choose_steps(e, {tokens, row_bytes}, decision.request, bulk_bytes);
  const int most_blocks = in_steps ? e.moving_blocks : e.waiting_blocks;
  const tuning::Choice send = choose(e, {e.shape.row_capacity, row_bytes}, decision.request, most_blocks);
  // A wire row is a row in the format of combine_quant. Splits count its units of 16 bytes. A split of `send` is a
  // multiple of 8 units, because a block of fp8_blockwise (128 elements, 128 bytes) must not be split.
  const bool quantised = e.config.combine_quant != CombineQuant::none;
  const std::int64_t wire_bytes = round_up<std::int64_t>(quantised ? e.shape.hidden : row_bytes, 16);
  CombineGeometry chosen{};
  chosen.in_steps = in_steps && !kernels::uses_ll(args);
  chosen.send = row_splits_of(wire_bytes, send.splits_per_row, 8);
  chosen.reduce = row_splits_of(wire_bytes, reduce.splits_per_row, 1);
  // The grid is chosen for sending if this call sends, else for summing.
  chosen.geometry = kernels::uses_ll(args) ? choose_for_ll(e, {tokens, row_bytes, 1}, 0, decision.request).geometry
                                           : (sends_rows ? send : reduce).geometry;
  chosen.info = info_of(e, chosen.geometry, sends_rows ? chosen.send : chosen.reduce, decision.by,
                        chosen.in_steps ? 1 : chosen.geometry.num_blocks);
  return chosen;
}

}  // namespace crossdock::op
