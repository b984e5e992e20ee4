// SPDX-License-Identifier: Apache-2.0
#include "report/timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;
using Events = std::vector<TraceEvent>;

/// An operation of a rank: its stamps by block, in the order in which the block took them: of phases, and of peers' signals.
struct Operation {
  std::map<int, Events> blocks, seen;

  std::uint64_t begin() const {
    std::uint64_t first = ~std::uint64_t{0};
    for (const auto& [block, stamps] : blocks) first = std::min(first, stamps.front().time_ns);
    return first;
  }
  /// The block that ends last: what it did is what the operation took.
  int last_block() const {
    const auto ends_before = [](const auto& a, const auto& b) {
      return a.second.back().time_ns < b.second.back().time_ns;
    };
    return std::max_element(blocks.begin(), blocks.end(), ends_before)->first;
  }
  bool is_whole() const {
    return std::all_of(blocks.begin(), blocks.end(), [](const auto& block) {
      return block.second.front().phase == Phase::begin && block.second.back().phase == Phase::end;
    });
  }
};

using Key = std::pair<int, std::uint64_t>;  // buffer set, epoch
Key key_of(const TraceEvent& event) { return {event.buffer_set, event.epoch}; }

std::map<Key, Operation> operations_of(const Events& events) {
  std::map<Key, Operation> all;
  for (const TraceEvent& event : events) {
    Operation& operation = all[key_of(event)];
    (event.peer < 0 ? operation.blocks : operation.seen)[event.block].push_back(event);
  }
  std::erase_if(all, [](const auto& entry) { return entry.second.blocks.empty(); });  // an old ring's last leavings
  return all;
}

/// When a rank knew the counts of all ranks, by operation.
std::map<Key, std::uint64_t> counts_known(const Events& events) {
  std::map<Key, std::uint64_t> known;
  for (const TraceEvent& event : events) {
    if (event.phase != Phase::move) continue;
    std::uint64_t& time = known.try_emplace(key_of(event), event.time_ns).first->second;
    time = std::min(time, event.time_ns);
  }
  return known;
}

/// What to add to a rank's clock: the median over operations of how far it is behind that of rank 0.
std::int64_t shift_of(const Events& events, const std::map<Key, std::uint64_t>& known_first) {
  std::vector<std::int64_t> behind{};
  for (const auto& [key, time] : counts_known(events))
    if (const auto same = known_first.find(key); same != known_first.end())
      behind.push_back(static_cast<std::int64_t>(same->second - time));
  if (behind.empty()) return 0;
  const auto middle = behind.begin() + static_cast<std::ptrdiff_t>(behind.size() / 2);
  std::nth_element(behind.begin(), middle, behind.end());
  return *middle;
}

/// Collects events of the format, of a rank (`pid`) and a track of it (`tid`).
class Writer {
 public:
  explicit Writer(std::uint64_t zero_ns) : zero_ns_(zero_ns) {}

  void name(const char* what, int rank, int track, const std::string& text) {
    events_.push_back({{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", track}, {"args", {{"name", text}}}});
  }
  void slice(int rank, int track, std::string_view name, std::uint64_t begin, std::uint64_t end, const TraceEvent& of) {
    add("X", rank, track, name, begin, of)["dur"] = us(std::max(begin, end)) - us(begin);
  }
  /// The phases of a block, and instants at which it saw the signals of peers.
  void block(int rank, int track, const Operation& operation, int block) {
    const Events& stamps = operation.blocks.at(block);
    for (std::size_t i = 0; i + 1 < stamps.size(); ++i)
      slice(rank, track, name_of(stamps[i].phase), stamps[i].time_ns, stamps[i + 1].time_ns, stamps[i]);
    const auto seen = operation.seen.find(block);
    if (seen == operation.seen.end()) return;
    for (const TraceEvent& of : seen->second) {
      constexpr std::string_view kWait = "wait_";  // for the signal on an edge
      Json& event = add("i", rank, track, fmt::format("{} of rank {}", name_of(of.phase).substr(kWait.size()), of.peer),
                        of.time_ns, of);
      event["s"] = "t";
      event["args"]["peer"] = of.peer;
    }
  }
  Json take() { return std::move(events_); }

 private:
  Json& add(const char* kind, int rank, int track, std::string_view name, std::uint64_t time_ns, const TraceEvent& of) {
    events_.push_back({{"ph", kind},
                       {"name", name},
                       {"cat", of.combine ? "combine" : "dispatch"},
                       {"pid", rank},
                       {"tid", track},
                       {"ts", us(time_ns)},
                       {"args", {{"epoch", of.epoch}, {"buffer_set", of.buffer_set}, {"block", of.block}}}});
    return events_.back();
  }
  double us(std::uint64_t ns) const { return static_cast<double>(static_cast<std::int64_t>(ns - zero_ns_)) / 1e3; }

  std::uint64_t zero_ns_;
  Json events_ = Json::array();
};

}  // namespace

void keep_last_operations(std::vector<Events>& events, int count) {
  std::map<Key, std::size_t> ranks_with;
  for (const Events& of_rank : events)
    for (const auto& [key, operation] : operations_of(of_rank)) ranks_with[key] += operation.is_whole();
  std::vector<std::pair<std::uint64_t, Key>> whole;  // by time on rank 0
  const auto first = events.empty() ? std::map<Key, Operation>{} : operations_of(events[0]);
  for (const auto& [key, ranks] : ranks_with)
    if (ranks == events.size()) whole.emplace_back(first.at(key).begin(), key);
  std::sort(whole.rbegin(), whole.rend());
  whole.resize(std::min(whole.size(), static_cast<std::size_t>(count)));
  std::set<Key> kept;
  for (const auto& [time, key] : whole) kept.insert(key);
  for (Events& of_rank : events)
    std::erase_if(of_rank, [&](const TraceEvent& event) { return !kept.contains(key_of(event)); });
}

std::vector<PeerWait> peer_waits(const std::vector<Events>& events) {
  std::map<std::tuple<Phase, int, int>, std::pair<double, int>> sums;  // ns, how many
  for (std::size_t r = 0; r < events.size(); ++r)
    for (const auto& [key, operation] : operations_of(events[r]))
      for (const auto& [block, seen] : operation.seen) {
        const auto phases = operation.blocks.find(block);
        if (phases == operation.blocks.end()) continue;
        for (const TraceEvent& of : seen)
          for (const TraceEvent& began : phases->second) {
            if (began.phase != of.phase) continue;
            auto& [ns, count] = sums[{of.phase, static_cast<int>(r), of.peer}];
            // Threads begin to wait each at a time of their own, some before the one that stamps the phase.
            ns += of.time_ns > began.time_ns ? static_cast<double>(of.time_ns - began.time_ns) : 0;
            ++count;
          }
      }
  std::vector<PeerWait> waits;
  waits.reserve(sums.size());
  for (const auto& [key, sum] : sums)
    waits.push_back({std::get<0>(key), std::get<1>(key), std::get<2>(key), sum.first / sum.second / 1e3});
  return waits;
}

Json timeline_of(const std::vector<Events>& given, const TimelineOptions& options) {
  std::vector<Events> events = given;
  std::vector<std::int64_t> shifts(events.size(), 0);
  std::uint64_t zero = ~std::uint64_t{0};
  for (std::size_t r = 0; r < events.size(); ++r) {
    if (options.align && r > 0) shifts[r] = shift_of(events[r], counts_known(events[0]));
    for (TraceEvent& event : events[r]) zero = std::min(zero, event.time_ns += static_cast<std::uint64_t>(shifts[r]));
  }
  Writer writer(zero);
  for (std::size_t r = 0; r < events.size(); ++r) {
    const int rank = static_cast<int>(r);
    writer.name("process_name", rank, 0, fmt::format("rank {}", rank));
    writer.name("thread_name", rank, 0, "operations, phases of the block that ends last");
    std::set<int> blocks;
    for (const auto& [key, operation] : operations_of(events[r])) {
      const int last = operation.last_block();
      const Events& stamps = operation.blocks.at(last);
      writer.slice(rank, 0, stamps.front().combine ? "combine" : "dispatch", operation.begin(), stamps.back().time_ns,
                   stamps.front());
      writer.block(rank, 0, operation, last);
      for (const auto& [block, of_block] : operation.blocks) {
        if (!options.blocks) break;
        blocks.insert(block);
        writer.block(rank, 1 + block, operation, block);
      }
    }
    for (const int block : blocks) writer.name("thread_name", rank, 1 + block, fmt::format("block {}", block));
  }
  Json file;
  file["traceEvents"] = writer.take();
  file["displayTimeUnit"] = "ns";
  file["otherData"] = {{"clock_shifts_ns", shifts}, {"aligned", options.align ? "counts known at one time" : "no"}};
  return file;
}

}  // namespace crossdock::tools
