// SPDX-License-Identifier: Apache-2.0
// What a replayed graph reads, and what it compares with, in device memory: one version of each for every set of a case.
#pragma once

#include <algorithm>
#include <cstring>
#include <functional>
#include <string_view>
#include <vector>

#include "support/answers.hpp"
#include "support/device_steps.hpp"
#include "support/rank_memory.hpp"

namespace crossdock::testing {

using Bytes = std::vector<std::uint8_t>;

/* What is compared where it lies: name, how a difference is told */
#define XD_LOOKS(X)                           \
  X(rows, "the received rows")                \
  X(scales, "their scales")                   \
  X(ids, "their ids")                         \
  X(weights, "their weights")                 \
  X(sources, "their sources")                 \
  X(counts, "the counts")                     \
  X(expert_counts, "the counts of experts")   \
  X(expert_rows, "the rows by expert")        \
  X(expert_scales, "the scales by expert")    \
  X(expert_weights, "the weights by expert")  \
  X(expert_sources, "the sources by expert")  \
  X(expert_offsets, "the offsets of experts") \
  X(result, "the result")                     \
  X(result_weights, "the second result")
#define XD_NAME(name, ...) name,
enum class Look { XD_LOOKS(XD_NAME) };
#undef XD_NAME
#define XD_TEXT(name, text) text,
inline constexpr std::string_view kLooks[] = {XD_LOOKS(XD_TEXT)};
#undef XD_TEXT
inline constexpr int kNumLooks = static_cast<int>(std::size(kLooks));

/// Whether a case has such a thing.
inline bool has(const TestCase& test, Look look) {
  const bool by_expert = test.config.layout != Layout::token_major;
  switch (look) {
    case Look::scales:
      return test.config.scale_bytes > 0;
    case Look::expert_scales:
      return by_expert && test.config.scale_bytes > 0;
    case Look::expert_rows:
    case Look::expert_weights:
    case Look::expert_sources:
    case Look::expert_offsets:
      return by_expert;
    case Look::result_weights:
      return test.combine_topk_weights;
    default:
      return true;
  }
}

/// Bytes, and which of their bits matter; `mask` empty: all.
struct Masked {
  Bytes bytes, mask = {};
};

template <class T>
Bytes bytes_of(const std::vector<T>& values) {
  const auto* first = reinterpret_cast<const std::uint8_t*>(values.data());
  return {first, first + values.size() * sizeof(T)};
}

/// On padding only rank and token have a meaning.
inline Masked masked_sources(const std::vector<RowSource>& sources) {
  std::vector<RowSource> mask;
  for (const RowSource& source : sources) mask.push_back({-1, -1, source.rank < 0 ? 0 : -1, 0});
  return {bytes_of(sources), bytes_of(mask)};
}

inline Masked masked_counts(const TestCase& test, const oracle::RankAnswer& right) {
  Counts counts{}, mask{};
  const auto put = [](std::int64_t& to, std::int64_t& cares, std::int64_t value) { to = value, cares = -1; };
  put(counts.num_rows, mask.num_rows, right.num_rows);
  put(counts.rows_needed, mask.rows_needed, right.rows_needed);
  put(counts.num_tokens, mask.num_tokens, right.num_tokens);
  put(counts.bad_ids, mask.bad_ids, right.bad_ids);
  for (int s = 0; s < test.num_ranks; ++s) {
    put(counts.rows_per_source[s], mask.rows_per_source[s], right.rows_per_source[s]);
    put(counts.dropped_per_source[s], mask.dropped_per_source[s], right.dropped_per_source[s]);
  }
  if (test.config.layout != Layout::token_major) {
    put(counts.expert_rows_needed, mask.expert_rows_needed, right.experts.rows_needed);
    put(counts.expert_rows_dropped, mask.expert_rows_dropped, right.experts.rows_dropped);
  }
  return {bytes_of(std::vector{counts}), bytes_of(std::vector{mask})};
}

/// Rows of experts are copies of token-major rows; padding matters only where it must be zero.
inline Masked masked_by_expert(const oracle::ExpertAnswer& experts, const Bytes& rows, std::int64_t row_bytes,
                               bool zero_padding) {
  Masked all{Bytes(experts.num_rows_max * row_bytes), Bytes(experts.num_rows_max * row_bytes)};
  for (std::int64_t r = 0; r < experts.num_rows_max; ++r) {
    const std::int64_t slot = experts.slots[r];
    if (slot >= 0) std::memcpy(&all.bytes[r * row_bytes], &rows[slot * row_bytes], row_bytes);
    if (slot >= 0 || (zero_padding && r < experts.offsets.back()))
      std::memset(&all.mask[r * row_bytes], 0xff, row_bytes);
  }
  return all;
}

/// What `rank` must find in a set.
inline Masked right_of(const TestCase& test, const Answers& set, int rank, Look look) {
  const oracle::RankAnswer& got = set.received[rank];
  const Config& c = test.config;
  switch (look) {
    case Look::rows:
      return {got.rows};
    case Look::scales:
      return {got.scales};
    case Look::ids:
      return {bytes_of(got.ids)};
    case Look::weights:
      return {bytes_of(got.weights)};
    case Look::sources:
      return masked_sources(got.sources);
    case Look::counts:
      return masked_counts(test, got);
    case Look::expert_counts:
      return {bytes_of(got.expert_counts)};
    case Look::expert_rows:
      return masked_by_expert(got.experts, got.rows, row_bytes_of(c.dispatch_dtype, c.hidden), c.zero_padding);
    case Look::expert_scales:
      return masked_by_expert(got.experts, got.scales, c.scale_bytes, false);
    case Look::expert_weights:
      return {bytes_of(got.experts.weights)};
    case Look::expert_sources:
      return masked_sources(got.experts.sources);
    case Look::expert_offsets:
      return {bytes_of(got.experts.offsets)};
    case Look::result:
      return {set.results[rank].rows};
    case Look::result_weights:
      return {bytes_of(set.results[rank].weights)};
  }
  return {};
}

/// The partial rows that the experts of `owner` write at `home`.
inline Masked landings_of(const TestCase& test, const Answers& set, int owner, int home) {
  const oracle::RankAnswer& plan = set.received[home];
  const std::int64_t row_bytes = row_bytes_of(test.config.combine_dtype, test.config.hidden);
  Masked all{set.outputs[home], Bytes(set.outputs[home].size())};
  for (std::int64_t i = 0; i < std::int64_t{plan.num_tokens} * test.config.top_k; ++i)
    if (plan.kept_ids[i / test.config.top_k] >> (i % test.config.top_k) & 1 &&
        oracle::rank_of_expert(set.shape, set.inputs[home].ids[i]) == owner)
      std::memset(&all.mask[i * row_bytes], 0xff, row_bytes);
  return all;
}

/// The same block of each set, in device memory.
class Block {
 public:
  Block(BackendKind backend, std::size_t count, const std::function<Masked(std::size_t)>& of)
      : count_(static_cast<int>(count)) {
    std::vector<Masked> versions;
    std::vector<std::int64_t> bytes;
    for (std::size_t n = 0; n < count; ++n) {
      versions.push_back(of(n));
      bytes.push_back(static_cast<std::int64_t>(versions.back().bytes.size() + 3) / 4 * 4);
      stride_ = std::max(stride_, (bytes.back() + 15) / 16 * 16);
    }
    const bool masked = std::any_of(versions.begin(), versions.end(), [](const Masked& v) { return !v.mask.empty(); });
    Bytes all(stride_ * count), masks(masked ? all.size() : 0);
    for (std::size_t n = 0; n < count; ++n) {
      std::copy(versions[n].bytes.begin(), versions[n].bytes.end(), all.begin() + n * stride_);
      std::copy(versions[n].mask.begin(), versions[n].mask.end(), masks.begin() + (masked ? n * stride_ : 0));
    }
    base_ = on_device(backend, all);
    if (masked) masks_ = on_device(backend, masks);
    bytes_ = on_device(backend, bytes_of(bytes));
  }
  Versions versions() const {
    return {base_.as<std::uint8_t>(), masks_.as<std::uint8_t>(), stride_, bytes_.as<std::int64_t>(), count_};
  }

 private:
  static Buffer on_device(BackendKind backend, const Bytes& bytes) {
    Buffer buffer(backend, std::max<std::size_t>(bytes.size(), 16));
    copy_in(backend, buffer.data(), bytes.data(), bytes.size());
    return buffer;
  }
  int count_;
  std::int64_t stride_ = 0;
  Buffer base_, masks_, bytes_;
};

}  // namespace crossdock::testing
