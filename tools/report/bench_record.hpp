// SPDX-License-Identifier: Apache-2.0
// One timed line of `crossdock bench`: what was run, what it took, and the figures that follow from both.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "jobs/measure.hpp"

namespace crossdock::tools {

/// Where and when; the same for all lines of a run.
struct Setting {
  std::string commit, host, driver, date;
  bool limit_of_link = false;  // the limit is what crosses between ranks, not what a rank's memory takes
};

struct Record {
  Problem problem;
  Run run;
  Setting setting;
  std::string refused;  // not timed, and why
  std::string wrong;    // timed in vain: the result differs from the oracle's
  int repeats = 0;      // that were timed; fewer than asked for where they take long
  double us_median = 0, us_p99 = 0, us_min = 0;
  std::vector<Traffic> traffic;    // bytes stored to other ranks but flags: of dispatch, of combine, of both for a pair
  std::int64_t wire_bytes = 0;     // of that, by the busiest rank; or into the busiest, if more
  std::int64_t payload_bytes = 0;  // rows received by all ranks, own rows included
  double limit_gbps = 0;           // of one rank, from the same run
  double pattern_gbps = 0;         // of the busiest rank, in a bare copy of `traffic`, same run; 0: not measured
  LaunchInfo dispatch, combine;    // of rank 0
  bool packets = false;            // rows of few tokens travel in packets
  double host_us = 0;              // eager: of a call on the thread that makes it, median
  std::optional<double> rel_error;  // of combine against exact sums
  double plain_us = 0;  // of the same call, token-major and without weights, same run; 0: not timed, or this is it
  double floor_us = 0;  // see set_floor; 0: not asked for

  /// Fills the times and how many repetitions they are of.
  void set_times(const std::vector<double>& us);
  double wire_gbps() const { return us_median > 0 ? wire_bytes / us_median / 1e3 : 0; }
  double payload_gbps() const { return us_median > 0 ? payload_bytes / us_median / 1e3 : 0; }
  /// Payload rate of a rank, own rows included.
  double logical_gbps() const { return payload_gbps() / problem.shape.num_ranks; }
  /// That over what a rank can do.
  double payload_share() const { return limit_gbps > 0 ? logical_gbps() / limit_gbps : 0; }
  /// Rate between ranks over what one rank can send.
  double link_share() const { return limit_gbps > 0 ? wire_gbps() / limit_gbps : 0; }
  double over_us() const { return us_median - plain_us; }
  double over_share() const { return over_us() / plain_us; }
  bool counts() const { return refused.empty() && wrong.empty(); }
};

/// What each part of a call stores to other ranks, by definition: dispatch, combine, or one after the other.
std::vector<Traffic> traffic_of(const Data& data, Op op);

/// Fills what follows from these.
Record record_of(const Data& data, const Run& run, const Timing& timing);

/// "2026-11-22T17:00:00Z"
std::string now();

nlohmann::ordered_json to_json(const Record& record);

/// The table of such lines. A row without figures says only what was run.
std::string table_head();
std::string table_row(const nlohmann::ordered_json& line, bool figures = true);

/// The line of making a group or an exchange, `us` from some repetitions: no call, so nothing about bytes, rates and bits.
nlohmann::ordered_json creation_json(const std::string& what, const Problem& problem, const Setting& setting,
                                     const std::vector<double>& us);

/// Fills floor_us, where the rate is known: one signal, and the bytes at the limit's rate, or, where the routing favours experts,
/// at that of the bare copy in the same pattern; all of the same run. A pair hears of the others twice.
void set_floor(Record& record, double signal_us);
/// More than this is a miss: 1.25 x floor + 3 µs; where the routing favours experts 1.15 x floor, and 5 µs for up to 128 tokens.
double allowed_us(const Record& record);

/// Finds among `earlier` the time over which `record` counts.
void set_plain_time(Record& record, const std::vector<Record>& earlier);

/// What every line says of what was run: a key of it, for look-ups.
std::string identity_of(const nlohmann::ordered_json& line);
/// Whether two lines with the same identity also agree in what only some lines say.
bool same_run(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

}  // namespace crossdock::tools
