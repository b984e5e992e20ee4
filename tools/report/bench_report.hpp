// SPDX-License-Identifier: Apache-2.0
// Where the lines of `crossdock bench` go: a table for people, JSON lines and CSV for machines, a comparison with a baseline.
#pragma once

#include <string>
#include <vector>

#include "report/bench_record.hpp"

namespace crossdock::tools {

/// Where the figures come from, with a note, and the titles of the table.
void print_head(const Setting& setting, const std::string& note);
void print_line(const Record& record);

/// Of those records that hold a time.
std::vector<nlohmann::ordered_json> lines_of(const std::vector<Record>& records);
/// What the machine itself can do, for people and with keys that stay: `limit` names it, and tells such a line from a timed one.
void print_limit(const Limit& limit);
std::vector<nlohmann::ordered_json> lines_of(const std::vector<Limit>& limits, const Setting& setting);

void append_json_lines(const std::string& file, const std::vector<nlohmann::ordered_json>& lines);
void write_csv(const std::string& file, const std::vector<nlohmann::ordered_json>& lines);

/// Prints the lines that took more than allowed_us, and all whose floor is of a pattern of their own. The number of the former;
/// BadInput if no line has a floor.
int compare_with_floor(double signal_us, const std::vector<Record>& records);

/// Prints every line that both have. True if one got worse: rows that fill the wire by bandwidth, the others by latency.
bool compare_with_baseline(const std::string& file, const std::vector<Record>& records);

}  // namespace crossdock::tools
