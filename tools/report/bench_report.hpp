// SPDX-License-Identifier: Apache-2.0
// Where the lines of `crossdock bench` go: a table for people, JSON lines and CSV for machines, a comparison with a baseline.
#pragma once

#include <string>
#include <vector>

#include "report/bench_record.hpp"

namespace crossdock::tools {

void print_table_head(const Measurer& measurer, const Setting& setting);
void print_table_line(const Record& record);

void append_json_lines(const std::string& file, const std::vector<Record>& records);
void write_csv(const std::string& file, const std::vector<Record>& records);

/// Prints every line that both have. True if one got worse: rows that fill the wire by bandwidth, the others by latency.
bool compare_with_baseline(const std::string& file, const std::vector<Record>& records);

}  // namespace crossdock::tools
