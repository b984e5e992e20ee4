// SPDX-License-Identifier: Apache-2.0
// Steps that kernels share: beginning, sharing out work, and finding the block that finishes last.
#pragma once

#include "kernels/args.hpp"
#include "sync/wait_device.hpp"

namespace crossdock::kernels {

/// False if the group has failed: the failure is kept and the call falls through.
template <class M>
XD_FN bool begin(M& m, const Call& call) {
  std::uint64_t word = 0;
  if (m.thread() == 0) word = sync::poisoned(m, call.watch);
  if (word) sync::fail(m, call.watch, sync::Poison::of(word), 0, 0);
  return !m.any_in_block(word != 0);
}

/// Part `idx` of `count` of [0, total).
struct Range {
  std::int64_t first, end;
};
XD_FN constexpr Range share_of(std::int64_t total, std::int64_t idx, std::int64_t count) {
  return {total * idx / count, total * (idx + 1) / count};
}

/// Units of piece `piece` of a row, each piece a multiple of `grain` units.
struct Units {
  std::int32_t first, end;
};
XD_FN constexpr Units units_of_piece(std::int32_t units, int piece, int pieces, int grain) {
  const std::int32_t per_piece = round_up(ceil_div(units, pieces), grain);
  return {smaller(units, piece * per_piece), smaller(units, (piece + 1) * per_piece)};
}

/// True in every thread of the block that arrives last; it then sees all that the others have written.
template <class M>
XD_FN bool arrive_last(M& m, std::uint32_t* arrivals) {
  m.sync_block();
  bool last = false;
  if (m.thread() == 0) last = m.add_acq_rel(arrivals, 1) + 1 == static_cast<std::uint32_t>(m.num_blocks());
  return m.any_in_block(last);
}

}  // namespace crossdock::kernels
