// SPDX-License-Identifier: Apache-2.0
// What a rank does between dispatch and combine: its experts run over the received rows. The host must be able to read all
// pointers.
#pragma once

#include <cstdint>
#include <span>

#include "crossdock/exchange.hpp"
#include "layer/model.hpp"

namespace crossdock::tools {

/// token_major: `out` row n = sum over row n's ids that are local, in id order, of weight * expert(row n), in f32, rounded to
/// combine_dtype.
void run_experts(const Model& model, const Config& config, const TokenRows& rows, std::int64_t num_rows,
                 std::byte* out);

/// expert_major and contiguous: `out` row n = expert(row n), rounded to combine_dtype. combine applies the weights.
void run_experts(const Model& model, const Config& config, const ExpertRows& rows, std::span<const std::int32_t> counts,
                 int first_expert, std::byte* out);

/// The expert_capacity that a routing needs, on the rank that needs most. `ids` are those of all ranks, [tokens][k].
std::int64_t fitted_expert_capacity(const Config& config, int num_ranks, std::span<const std::int32_t> ids);

}  // namespace crossdock::tools
