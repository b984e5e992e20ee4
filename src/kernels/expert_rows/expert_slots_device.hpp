// SPDX-License-Identifier: Apache-2.0
// Where each local expert begins in the expert buffer, and how many of its rows fit.
#pragma once

#include "kernels/common/phase_device.hpp"
#include "kernels/expert_rows/expert_rows_shared.hpp"
#include "layout/slots.hpp"

namespace crossdock::kernels {

template <class M>
struct ExpertSlots {
  M& m;
  ExpertRowsShared& shared;
  const Call& call;
  const Shape& shape = call.shape;
  const bool fixed = shape.layout == Layout::expert_major;  // each expert has expert_capacity rows

  /// Reads how many rows experts [group, group + some) need. A barrier must follow. From here on experts are numbered
  /// within their group.
  XD_FN void read_needed(int group, int some) {
    const std::uint32_t* needed = call.local<std::uint32_t>(call.plan.expert_needed) + group;
    for (int x = m.thread(); x < some; x += m.num_threads()) {
      shared.needed[x] = needed[x];
      shared.taken[x] =
          static_cast<std::uint32_t>(fixed ? shape.expert_capacity : layout::padded_rows(needed[x], shape));
      shared.before[x] = 0;
    }
  }
  /// Sets shared.first, where each expert begins; [some] is the end of the last. The first begins at row `begin`. A
  /// barrier must follow.
  XD_FN void find_firsts(int some, std::int64_t begin) {
    std::int64_t first = begin;
    for (int x = m.thread(), summed = 0; x <= some; summed = x, x += m.num_threads()) {
      const int end = fixed ? summed : x;
      XD_UNROLL(16)
      for (int y = summed; y < end; ++y) first += shared.taken[y];
      shared.first[x] = fixed ? begin + x * shape.expert_capacity : first;
    }
  }

  /// Rows of expert x that fit.
  XD_FN std::int64_t kept_of(int x) const { return layout::fitting_rows(shared.first[x], shared.needed[x], shape); }
};

}  // namespace crossdock::kernels
