// SPDX-License-Identifier: Apache-2.0
// The results of dispatch: the destinations of every token and the rows of every rank.
#include <algorithm>
#include <cstring>
#include <set>
#include <stdexcept>
#include <string>

#include "oracle/answer.hpp"
#include "oracle/number.hpp"

namespace crossdock::oracle {
namespace {

constexpr RowSource kNoSource = {-1, -1, -1, 0};

bool is_valid(const Case& c, std::int64_t id) { return id >= 0 && id < c.num_experts; }

std::int64_t round_up(std::int64_t n, std::int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

void expect(bool ok, const std::string& what) {
  if (!ok) throw std::invalid_argument("oracle: " + what);
}

void check(const Case& c, const std::vector<RankInput>& inputs) {
  expect(c.num_ranks >= 1 && c.num_experts >= 1 && c.hidden >= 1 && c.alignment >= 1, "sizes must be positive");
  expect(c.top_k >= 1 && c.top_k <= kMaxTopk, "top_k must be 1 to 64");
  expect(static_cast<int>(inputs.size()) == c.num_ranks, "one input per rank");
  for (const RankInput& in : inputs) {
    const std::size_t tokens = in.num_tokens;
    expect(in.rows.size() >= tokens * row_bytes_of(c.dispatch_dtype, c.hidden), "rows are too short");
    expect(in.ids.size() >= tokens * c.top_k, "ids are too short");
    expect(in.weights.empty() || in.weights.size() >= tokens * c.top_k, "weights are too short");
    expect(in.scales.size() >= tokens * c.scale_bytes, "scales are too short");
  }
}

// Step 1, at the home rank: the distinct ranks of each token, in the order in which its valid ids first name them.
void find_destinations(const Case& c, const RankInput& in, RankAnswer& home) {
  home.num_tokens = std::min(in.num_tokens, c.max_tokens_per_rank);
  home.destinations.resize(home.num_tokens);
  home.kept_ids.assign(home.num_tokens, 0);
  for (int t = 0; t < home.num_tokens; ++t) {
    auto& list = home.destinations[t];
    for (int j = 0; j < c.top_k; ++j) {
      const std::int64_t id = in.ids[std::int64_t{t} * c.top_k + j];
      if (id != -1 && !is_valid(c, id)) ++home.bad_ids;
      if (!is_valid(c, id)) continue;
      const int rank = rank_of_expert(c, id);
      const bool named = std::any_of(list.begin(), list.end(), [&](const Destination& d) { return d.rank == rank; });
      if (!named) list.push_back({rank, -1});
    }
  }
}

// Step 2, at the receiver: rows in the order (home rank, token), kept while there is room.
void assign_slots(const Case& c, int here, std::vector<RankAnswer>& answers) {
  RankAnswer& mine = answers[here];
  const std::int64_t capacity = row_capacity(c);
  mine.rows_per_source.assign(c.num_ranks, 0);
  mine.dropped_per_source.assign(c.num_ranks, 0);
  mine.sources.assign(capacity, kNoSource);
  for (int home = 0; home < c.num_ranks; ++home) {
    for (int t = 0; t < answers[home].num_tokens; ++t) {
      auto& list = answers[home].destinations[t];
      for (std::size_t ordinal = 0; ordinal < list.size(); ++ordinal) {
        if (list[ordinal].rank != here) continue;
        ++mine.rows_needed;
        if (mine.num_rows == capacity) {
          ++mine.dropped_per_source[home];
          continue;
        }
        const std::int64_t combine_slot = t * landing_rows_per_token(c) + static_cast<std::int64_t>(ordinal);
        mine.sources[mine.num_rows] = {home, t, static_cast<std::int32_t>(combine_slot), 0};
        list[ordinal].slot = mine.num_rows++;
        ++mine.rows_per_source[home];
      }
    }
  }
}

// Step 3, at the home rank: the ids whose rank did not drop the row.
void mark_kept_ids(const Case& c, const RankInput& in, RankAnswer& home) {
  for (int t = 0; t < home.num_tokens; ++t) {
    for (int j = 0; j < c.top_k; ++j) {
      const std::int64_t id = in.ids[std::int64_t{t} * c.top_k + j];
      if (!is_valid(c, id)) continue;
      for (const Destination& d : home.destinations[t]) {
        if (d.rank == rank_of_expert(c, id) && d.slot >= 0) home.kept_ids[t] |= std::uint64_t{1} << j;
      }
    }
  }
}

// Step 4, at the receiver: the contents of the rows.
void fill_rows(const Case& c, const std::vector<RankInput>& inputs, bool copy_rows, RankAnswer& mine) {
  const std::int64_t k = c.top_k, row_bytes = row_bytes_of(c.dispatch_dtype, c.hidden);
  mine.ids.assign(row_capacity(c) * k, -1);
  mine.weights.assign(row_capacity(c) * k, 0.0f);
  mine.scales.resize(mine.num_rows * c.scale_bytes);
  if (copy_rows) mine.rows.resize(mine.num_rows * row_bytes);
  for (std::int64_t slot = 0; slot < mine.num_rows; ++slot) {
    const RankInput& in = inputs[mine.sources[slot].rank];
    const std::int64_t t = mine.sources[slot].token;
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int64_t id = in.ids[t * k + j];
      mine.ids[slot * k + j] = is_valid(c, id) ? static_cast<std::int32_t>(id) : -1;
      mine.weights[slot * k + j] = in.weights.empty() ? 1.0f : in.weights[t * k + j];
    }
    if (copy_rows) std::memcpy(&mine.rows[slot * row_bytes], &in.rows[t * row_bytes], row_bytes);
    if (c.scale_bytes > 0)
      std::memcpy(&mine.scales[slot * c.scale_bytes], &in.scales[t * c.scale_bytes], c.scale_bytes);
  }
}

// Distinct (row, expert) pairs per local expert.
std::vector<std::int32_t> count_pairs(const Case& c, int here, const RankAnswer& mine) {
  std::vector<std::int32_t> counts(num_local_experts(c, here), 0);
  for (std::int64_t slot = 0; slot < mine.num_rows; ++slot) {
    std::set<std::int32_t> local;
    for (int j = 0; j < c.top_k; ++j) {
      const std::int32_t id = mine.ids[slot * c.top_k + j];
      if (id >= 0 && rank_of_expert(c, id) == here) local.insert(id - here * experts_per_rank(c));
    }
    for (std::int32_t x : local) ++counts[x];
  }
  return counts;
}

// Step 5: first rows, extents and dropped rows of each expert, from the uncapped counts.
void lay_out_experts(const Case& c, ExpertAnswer& experts) {
  const std::int64_t capacity = expert_capacity(c);
  const bool major = c.layout == Layout::expert_major;
  const std::size_t num_experts = experts.needed.size();
  experts.num_rows_max = major ? static_cast<std::int64_t>(num_experts) * capacity : capacity;
  experts.offsets.assign(1, 0);
  for (std::size_t x = 0; x < num_experts; ++x) {
    const std::int64_t needed = experts.needed[x], first = experts.offsets[x];
    const std::int64_t room = major ? capacity : std::max<std::int64_t>(0, capacity - first);
    const std::int64_t dropped = std::max<std::int64_t>(0, needed - room);
    experts.dropped.push_back(static_cast<std::int32_t>(dropped));
    experts.rows_dropped += dropped;
    experts.offsets.push_back(static_cast<std::int32_t>(first + (major ? capacity : round_up(needed, c.alignment))));
    if (major) experts.rows_needed = std::max(experts.rows_needed, needed);
  }
  if (!major) experts.rows_needed = experts.offsets.back();
}

// Step 6: one row per (token-major row, expert), in the order of the token-major rows.
void fill_experts(const Case& c, int here, RankAnswer& mine) {
  ExpertAnswer& experts = mine.experts;
  experts.slots.assign(experts.num_rows_max, -1);
  experts.sources.assign(experts.num_rows_max, kNoSource);
  experts.weights.assign(experts.num_rows_max, 0.0f);
  experts.row_of_id.assign(mine.num_rows * c.top_k, -1);
  mine.expert_counts.assign(experts.needed.size(), 0);
  for (std::size_t x = 0; x < experts.needed.size(); ++x) {
    const std::int32_t id = here * experts_per_rank(c) + static_cast<std::int32_t>(x);
    for (std::int64_t slot = 0; slot < mine.num_rows; ++slot) {
      float weight = 0.0f;
      int first_j = -1;
      for (int j = 0; j < c.top_k; ++j) {
        if (mine.ids[slot * c.top_k + j] != id) continue;
        weight = weight + mine.weights[slot * c.top_k + j];
        if (first_j < 0) first_j = j;
      }
      if (first_j < 0 || mine.expert_counts[x] == experts.needed[x] - experts.dropped[x]) continue;
      const std::int64_t row = experts.offsets[x] + mine.expert_counts[x]++;
      experts.slots[row] = slot;
      experts.sources[row] = mine.sources[slot];
      experts.weights[row] = round_to(Dtype::f32, weight);  // makes NaNs canonical
      experts.row_of_id[slot * c.top_k + first_j] = row;
    }
  }
}

}  // namespace

int experts_per_rank(const Case& c) { return (c.num_experts + c.num_ranks - 1) / c.num_ranks; }

int rank_of_expert(const Case& c, std::int64_t expert) { return static_cast<int>(expert / experts_per_rank(c)); }

int num_local_experts(const Case& c, int rank) {
  int count = 0;
  for (int e = 0; e < c.num_experts; ++e) count += rank_of_expert(c, e) == rank ? 1 : 0;
  return count;
}

std::int64_t row_capacity(const Case& c) {
  return c.row_capacity > 0 ? c.row_capacity : std::int64_t{c.num_ranks} * c.max_tokens_per_rank;
}

std::int64_t expert_capacity(const Case& c) {
  if (c.expert_capacity > 0) return c.expert_capacity;
  if (c.layout != Layout::contiguous) return row_capacity(c);
  const std::int64_t per_rank = experts_per_rank(c);
  const std::int64_t rows = row_capacity(c) * std::min<std::int64_t>(c.top_k, per_rank);
  return round_up(rows + per_rank * (c.alignment - 1), c.alignment);
}

std::int64_t landing_rows_per_token(const Case& c) { return std::min(c.top_k, c.num_ranks); }

std::vector<RankAnswer> dispatch_answer(const Case& c, const std::vector<RankInput>& inputs, bool copy_rows) {
  check(c, inputs);
  std::vector<RankAnswer> answers(c.num_ranks);
  for (int r = 0; r < c.num_ranks; ++r) find_destinations(c, inputs[r], answers[r]);
  for (int r = 0; r < c.num_ranks; ++r) assign_slots(c, r, answers);
  for (int r = 0; r < c.num_ranks; ++r) mark_kept_ids(c, inputs[r], answers[r]);
  for (int r = 0; r < c.num_ranks; ++r) {
    fill_rows(c, inputs, copy_rows, answers[r]);
    answers[r].expert_counts = count_pairs(c, r, answers[r]);
    if (c.layout == Layout::token_major) continue;
    answers[r].experts.needed = answers[r].expert_counts;
    lay_out_experts(c, answers[r].experts);
    fill_experts(c, r, answers[r]);
  }
  return answers;
}

bool same_source(const RowSource& a, const RowSource& b) {
  return a.rank == b.rank && a.token == b.token && (a.rank < 0 || a.combine_slot == b.combine_slot);
}

const std::uint8_t* received_row(const Case& c, const std::vector<RankInput>& inputs, const RowSource& source) {
  return inputs[source.rank].rows.data() + source.token * row_bytes_of(c.dispatch_dtype, c.hidden);
}

}  // namespace crossdock::oracle
