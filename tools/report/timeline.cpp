// SPDX-License-Identifier: Apache-2.0
#include "report/timeline.hpp"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <tuple>

namespace crossdock::tools {
namespace {

using nlohmann::ordered_json;
using Events = std::vector<TraceEvent>;

/// An operation of a rank: its stamps by block, in the order in which the block took them: of phases, and of peers' signals.
struct Operation {
  std::map<int, Events> blocks, seen;

  std::uint64_t begin() const {
    std::uint64_t first = ~std::uint64_t{0};
    for (const auto& [block, stamps] : blocks) first = std::min(first, stamps.front().time_ns);
    return first;
  }
  std::uint64_t end() const {
    std::uint64_t last = 0;
    for (const auto& [block, stamps] : blocks) last = std::max(last, stamps.back().time_ns);
    return last;
  }
  /// The block that ends last: what it did is what the operation took.
  int last_block() const {
    int last = blocks.begin()->first;
    for (const auto& [block, stamps] : blocks)
      if (stamps.back().time_ns > blocks.at(last).back().time_ns) last = block;
    return last;
  }
  bool is_whole() const {
    for (const auto& [block, stamps] : blocks)
      if (stamps.front().phase != Phase::begin || stamps.back().phase != Phase::end) return false;
    return true;
  }
};

using Key = std::pair<int, std::uint64_t>;  // buffer set, epoch

std::map<Key, Operation> operations_of(const Events& events) {
  std::map<Key, Operation> all;
  for (const TraceEvent& event : events) {
    Operation& operation = all[{event.buffer_set, event.epoch}];
    (event.peer < 0 ? operation.blocks : operation.seen)[event.block].push_back(event);
  }
  std::erase_if(all, [](const auto& entry) { return entry.second.blocks.empty(); });  // an old ring's last leavings
  return all;
}

constexpr std::string_view kWait = "wait_";

/// The edge that is waited for in a phase.
std::string edge_of(Phase phase) { return std::string(name_of(phase).substr(kWait.size())); }

/// When a rank knew the counts of all ranks, by operation.
std::map<Key, std::uint64_t> counts_known(const Events& events) {
  std::map<Key, std::uint64_t> known;
  for (const TraceEvent& event : events) {
    if (event.phase != Phase::move) continue;
    const auto [entry, fresh] = known.try_emplace({event.buffer_set, event.epoch}, event.time_ns);
    if (!fresh) entry->second = std::min(entry->second, event.time_ns);
  }
  return known;
}

/// What to add to the clock of each rank: the median over operations of how far it is behind rank 0.
std::vector<std::int64_t> shifts_of(const std::vector<Events>& events) {
  std::vector<std::int64_t> shifts(events.size(), 0);
  const std::map<Key, std::uint64_t> first = counts_known(events[0]);
  for (std::size_t r = 1; r < events.size(); ++r) {
    std::vector<std::int64_t> behind;
    for (const auto& [key, time] : counts_known(events[r]))
      if (const auto same = first.find(key); same != first.end())
        behind.push_back(static_cast<std::int64_t>(same->second) - static_cast<std::int64_t>(time));
    if (behind.empty()) continue;
    std::nth_element(behind.begin(), behind.begin() + static_cast<std::ptrdiff_t>(behind.size() / 2), behind.end());
    shifts[r] = behind[behind.size() / 2];
  }
  return shifts;
}

/// Shifts the clocks as TimelineOptions::align says; gives what was added to each.
std::vector<std::int64_t> align(std::vector<std::vector<TraceEvent>>& events) {
  std::vector<std::int64_t> shifts = events.empty() ? std::vector<std::int64_t>{} : shifts_of(events);
  for (std::size_t r = 0; r < events.size(); ++r)
    for (TraceEvent& event : events[r]) event.time_ns += static_cast<std::uint64_t>(shifts[r]);
  return shifts;
}

std::uint64_t first_of(const std::vector<Events>& events) {
  std::uint64_t first = ~std::uint64_t{0};
  for (const Events& of_rank : events)
    for (const TraceEvent& event : of_rank) first = std::min(first, event.time_ns);
  return first;
}

class Writer {
 public:
  explicit Writer(std::uint64_t zero_ns) : zero_ns_(zero_ns) {}

  void name(const char* what, int rank, int track, const std::string& text) {
    events_.push_back({{"ph", "M"}, {"name", what}, {"pid", rank}, {"tid", track}, {"args", {{"name", text}}}});
  }
  void slice(int rank, int track, const std::string& name, std::uint64_t begin, std::uint64_t end,
             const TraceEvent& of) {
    events_.push_back({{"ph", "X"},
                       {"name", name},
                       {"cat", of.combine ? "combine" : "dispatch"},
                       {"pid", rank},
                       {"tid", track},
                       {"ts", us(begin)},
                       {"dur", us(std::max(begin, end)) - us(begin)},
                       {"args", {{"epoch", of.epoch}, {"buffer_set", of.buffer_set}, {"block", of.block}}}});
  }
  void phases(int rank, int track, const Events& stamps) {
    for (std::size_t i = 0; i + 1 < stamps.size(); ++i)
      slice(rank, track, std::string(name_of(stamps[i].phase)), stamps[i].time_ns, stamps[i + 1].time_ns, stamps[i]);
  }
  /// Instants at which the signals of peers were seen.
  void seen(int rank, int track, const Operation& operation, int block) {
    const auto stamps = operation.seen.find(block);
    if (stamps == operation.seen.end()) return;
    for (const TraceEvent& of : stamps->second)
      events_.push_back(
          {{"ph", "i"},
           {"s", "t"},
           {"name", edge_of(of.phase) + " of rank " + std::to_string(of.peer)},
           {"cat", of.combine ? "combine" : "dispatch"},
           {"pid", rank},
           {"tid", track},
           {"ts", us(of.time_ns)},
           {"args", {{"epoch", of.epoch}, {"buffer_set", of.buffer_set}, {"block", of.block}, {"peer", of.peer}}}});
  }
  ordered_json take() { return std::move(events_); }

 private:
  double us(std::uint64_t ns) const { return static_cast<double>(static_cast<std::int64_t>(ns - zero_ns_)) / 1e3; }
  std::uint64_t zero_ns_;
  ordered_json events_ = ordered_json::array();
};

}  // namespace

void keep_last_operations(std::vector<std::vector<TraceEvent>>& events, int count) {
  std::map<Key, std::size_t> ranks_with;
  for (const Events& of_rank : events)
    for (const auto& [key, operation] : operations_of(of_rank)) ranks_with[key] += operation.is_whole();
  std::vector<std::pair<std::uint64_t, Key>> whole;  // by time on rank 0
  const auto first = events.empty() ? std::map<Key, Operation>{} : operations_of(events[0]);
  for (const auto& [key, ranks] : ranks_with)
    if (ranks == events.size()) whole.emplace_back(first.at(key).begin(), key);
  std::sort(whole.begin(), whole.end());
  std::set<Key> kept;
  for (std::size_t i = whole.size() - std::min(whole.size(), static_cast<std::size_t>(count)); i < whole.size(); ++i)
    kept.insert(whole[i].second);
  for (Events& of_rank : events)
    std::erase_if(of_rank, [&](const TraceEvent& e) { return kept.count({e.buffer_set, e.epoch}) == 0; });
}

std::vector<PeerWait> peer_waits(const std::vector<std::vector<TraceEvent>>& events) {
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

nlohmann::ordered_json timeline_of(const std::vector<std::vector<TraceEvent>>& given, const TimelineOptions& options) {
  std::vector<Events> events = given;
  const std::vector<std::int64_t> shifts = options.align ? align(events) : std::vector<std::int64_t>(events.size(), 0);
  Writer writer(first_of(events));
  for (std::size_t r = 0; r < events.size(); ++r) {
    const int rank = static_cast<int>(r);
    writer.name("process_name", rank, 0, "rank " + std::to_string(rank));
    writer.name("thread_name", rank, 0, "operations, phases of the block that ends last");
    std::set<int> blocks;
    for (const auto& [key, operation] : operations_of(events[r])) {
      const int last = operation.last_block();
      const Events& stamps = operation.blocks.at(last);
      const bool combine = stamps.front().combine;
      writer.slice(rank, 0, combine ? "combine" : "dispatch", operation.begin(), operation.end(), stamps.front());
      writer.phases(rank, 0, stamps);
      writer.seen(rank, 0, operation, last);
      for (const auto& [block, of_block] : operation.blocks) {
        if (!options.blocks) break;
        blocks.insert(block);
        writer.phases(rank, 1 + block, of_block);
        writer.seen(rank, 1 + block, operation, block);
      }
    }
    for (const int block : blocks) writer.name("thread_name", rank, 1 + block, "block " + std::to_string(block));
  }
  ordered_json file;
  file["traceEvents"] = writer.take();
  file["displayTimeUnit"] = "ns";
  file["otherData"] = {{"clock_shifts_ns", shifts}, {"aligned", options.align ? "counts known at one time" : "no"}};
  return file;
}

}  // namespace crossdock::tools
