// SPDX-License-Identifier: Apache-2.0
// Launch geometries that a call, a config or a file requests, and their precedence.
#pragma once

#include <cstdint>

#include "crossdock/types.hpp"

namespace crossdock::tuning {

/// Requested geometry. The members are those of CallOptions; 0: not set.
struct GeometryRequest {
  std::int32_t num_sms = 0, num_blocks = 0, num_warps = 0, splits_per_row = 0;
  bool operator==(const GeometryRequest&) const = default;
};

/// The merged request, and the source of highest precedence that set any member of it.
struct Decision {
  GeometryRequest request;
  TuningSource by = TuningSource::rule;
};

/// Merges each member by itself: the value of the call, else of the config, else of the file.
inline Decision decide(const GeometryRequest& call, const GeometryRequest& config, const GeometryRequest& file) {
  constexpr TuningSource kSources[] = {TuningSource::call, TuningSource::config, TuningSource::file};
  Decision decision;
  const GeometryRequest* const requests[] = {&call, &config, &file};
  for (int i = 2; i >= 0; --i)
    for (std::int32_t GeometryRequest::*member : {&GeometryRequest::num_sms, &GeometryRequest::num_blocks,
                                                  &GeometryRequest::num_warps, &GeometryRequest::splits_per_row})
      if (requests[i]->*member > 0) {
        decision.request.*member = requests[i]->*member;
        decision.by = kSources[i];
      }
  return decision;
}

}  // namespace crossdock::tuning
