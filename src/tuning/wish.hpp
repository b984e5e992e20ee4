// SPDX-License-Identifier: Apache-2.0
// What somebody asks of a launch, and who is heard.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"

namespace crossdock::tuning {

/// 0: nothing is asked. The members are those of CallOptions.
struct Wish {
  std::int32_t num_sms = 0, num_blocks = 0, num_warps = 0, pieces = 0;
  bool operator==(const Wish&) const = default;
};

/// What counts in the end, and the first who has asked for any of it.
struct Decision {
  Wish wish;
  Decider by = Decider::rule;
};

/// Each member by itself: the call's, else the config's, else the file's.
inline Decision decide(const Wish& call, const Wish& config, const Wish& file) {
  constexpr Decider kWho[] = {Decider::call, Decider::config, Decider::file};
  Decision decision;
  const Wish* const wishes[] = {&call, &config, &file};
  for (int i = 2; i >= 0; --i)
    for (std::int32_t Wish::*member : {&Wish::num_sms, &Wish::num_blocks, &Wish::num_warps, &Wish::pieces})
      if (wishes[i]->*member > 0) {
        decision.wish.*member = wishes[i]->*member;
        decision.by = kWho[i];
      }
  return decision;
}

}  // namespace crossdock::tuning
