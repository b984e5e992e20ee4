// SPDX-License-Identifier: Apache-2.0
// What somebody asks of a launch, and who is heard.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"

namespace crossdock::tuning {

/// 0: nothing is asked. The members are those of CallOptions.
struct GeometryRequest {
  std::int32_t num_sms = 0, num_blocks = 0, num_warps = 0, splits_per_row = 0;
  bool operator==(const GeometryRequest&) const = default;
};

/// What counts in the end, and the first who has asked for any of it.
struct Decision {
  GeometryRequest request;
  TuningSource by = TuningSource::rule;
};

/// Each member by itself: the call's, else the config's, else the file's.
inline Decision decide(const GeometryRequest& call, const GeometryRequest& config, const GeometryRequest& file) {
  constexpr TuningSource kWho[] = {TuningSource::call, TuningSource::config, TuningSource::file};
  Decision decision;
  const GeometryRequest* const requests[] = {&call, &config, &file};
  for (int i = 2; i >= 0; --i)
    for (std::int32_t GeometryRequest::*member : {&GeometryRequest::num_sms, &GeometryRequest::num_blocks,
                                                  &GeometryRequest::num_warps, &GeometryRequest::splits_per_row})
      if (requests[i]->*member > 0) {
        decision.request.*member = requests[i]->*member;
        decision.by = kWho[i];
      }
  return decision;
}

}  // namespace crossdock::tuning
