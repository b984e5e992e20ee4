// SPDX-License-Identifier: Apache-2.0
// What `crossdock report` reads: lines of `crossdock bench --jsonl`, and a file of other libraries' times.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace crossdock::tools {

/// Which calls a time is about, but for tokens and how they were made. Equal: comparable.
struct Shape {
  std::string device;  // model of the GPUs
  int ranks = 0, hidden = 0, experts = 0, topk = 0;
  auto operator<=>(const Shape&) const = default;
};

/// A line of a bench; what it does not say is empty or 0.
struct Line {
  Shape shape;
  std::string op, dtype, layout, path, wire, routing, mode, tuned_by, commit, host, driver, date;
  int tokens = 0, scale_bytes = 0, num_sms = 0, launched_blocks = 0;
  bool bit_exact = false;    // compared with the oracle in the same run
  bool own_geometry = true;  // no blocks, warps or splits_per_row were asked for
  double us = 0, p99_us = 0, wire_bytes = 0, limit_gbps = 0;

  double wire_gbps() const { return wire_bytes / us / 1e3; }
};

struct Peer {
  Shape shape;
  std::string name, op, dtype, leaves_out, source;
  int scale_bytes = 0;
  std::vector<std::pair<double, double>> points;  // tokens, us
};

/// us + bytes / rate: what a link with one signal cannot beat.
struct Floor {
  std::string device, source;
  int ranks = 0;
  double us = 0, gbps = 0;
};

struct Peers {
  std::vector<Peer> peers;
  std::vector<Floor> floors;
};

/// Those whose two constants the lines of `crossdock bench --limits` in these files tell, which read_lines leaves out: of each
/// device and number of ranks the least time and the best rate. BadInput as below.
std::vector<Floor> read_floors(const std::vector<std::string>& files);
/// `peers` with these floors in place of its own about the same device and number of ranks.
Peers with_floors(Peers peers, const std::vector<Floor>& floors);

/// BadInput names file and line of what is no line of a bench.
std::vector<Line> read_lines(const std::vector<std::string>& files);
/// BadInput with the key that is missing or wrong.
Peers read_peers(const std::string& file);

}  // namespace crossdock::tools
