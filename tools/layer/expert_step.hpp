// SPDX-License-Identifier: Apache-2.0
// What a rank does between dispatch and combine: its experts run over the received rows, grouped by expert.
#pragma once

#include <cstdint>
#include <span>

#include "crossdock/exchange.hpp"
#include "layer/model.hpp"
#include "ranks/progress.hpp"

namespace crossdock::tools {

struct ExpertStep {
  const Model& model;
  const Config& config;
  RankProgress& progress;

  /// token_major: `out` row n = sum over row n's ids that are local, in id order, of weight * expert(row n), in f32,
  /// rounded to combine_dtype. All pointers of `rows` must be readable by the host.
  void run(const TokenRows& rows, std::int64_t num_rows, std::byte* out) const;

  /// expert_major and contiguous: `out` row n = expert(row n), rounded to combine_dtype. combine applies the weights.
  void run(const ExpertRows& rows, const std::int32_t* counts, int first_expert, int num_local_experts,
           std::byte* out) const;

 private:
  void run_chunk(const TokenRows& rows, std::int64_t begin, std::int64_t end, std::byte* out) const;
};

/// The expert_capacity that a routing needs, on the rank that needs most. `ids` are those of all ranks, [tokens][k].
std::int64_t fitted_expert_capacity(const Config& config, int num_ranks, std::span<const std::int32_t> ids);

}  // namespace crossdock::tools
