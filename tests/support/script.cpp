// SPDX-License-Identifier: Apache-2.0
#include "support/script.hpp"

#include <algorithm>
#include <list>
#include <map>
#include <random>
#include <thread>

namespace crossdock::testing {
namespace {

using Key = std::pair<std::uint64_t, std::uint64_t>;  // routing, payload

/// The answers of every step, worked out before the ranks start.
class Book {
 public:
  explicit Book(const TestCase& test) : test_(test) {}
  const Answers& of(std::uint64_t routing, std::uint64_t payload) {
    const auto [entry, made] = answers_.try_emplace({routing, payload});
    if (made) {
      TestCase test = test_;
      test.recipe.seed = routing;
      test.recipe.tokens = oracle::ragged_tokens(test.num_ranks, test.config.max_tokens_per_rank, routing);
      entry->second = answers_of(test, payload);
    }
    return entry->second;
  }

 private:
  const TestCase& test_;
  std::map<Key, Answers> answers_;
};

/// What a rank holds between steps.
struct InFlight {
  Received received;
  const Answers* answers;
  Targets targets;
};
struct Kept {
  Plan plan;
  std::uint64_t routing;
};

struct Player {
  Rank& rank;
  const TestCase& test;
  const std::vector<Step>& script;
  const std::vector<const Answers*>& answers;  // by step
  std::list<InFlight> max_in_flight = {};
  std::list<Kept> plans = {};
  /// Combine buffer -> a dispatch of its place has completed since the combine.
  std::map<const void*, bool> may_write = {};

  void step(std::size_t idx) {
    const Step& s = script[idx];
    const Answers& right = *answers[idx];
    switch (s.what) {
      case Do::dispatch:
        return take(s, right, [&](const Round& r) { return rank.exchange.dispatch(r.input()); });
      case Do::replay:
        return take(s, right, [&](const Round& r) { return rank.exchange.dispatch(plan(s).plan, r.payload()); });
      case Do::keep: {
        plans.push_back({flying(s).received.retain_plan(), s.routing});
        return;
      }
      case Do::combine:
        return combine(s, right);
      case Do::combine_plan:
        return combine_plan(s, right);
      case Do::drop_received:
        max_in_flight.erase(std::next(max_in_flight.begin(), s.which));
        return;
      case Do::drop_plan:
        plans.erase(std::next(plans.begin(), s.which));
        return;
    }
  }

  InFlight& flying(const Step& s) { return *std::next(max_in_flight.begin(), s.which); }
  Kept& plan(const Step& s) { return *std::next(plans.begin(), s.which); }

  template <class Dispatch>
  void take(const Step& s, const Answers& right, Dispatch&& dispatch) {
    Round round(test, right, rank.rank());
    Received received = dispatch(round);
    round.check(view_of(received), rank.log);
    if (s.what == Do::dispatch) rank.settle_reports(right);
    const Targets targets = targets_of(received, test);
    may_write[targets.combine_buffer] = true;
    max_in_flight.push_back({std::move(received), &right, targets});
  }

  void combine(const Step& s, const Answers& right) {
    InFlight& flight = flying(s);
    Round round(test, right, rank.rank());
    const CombineInput input = round.run_experts(flight.targets);
    may_write[flight.targets.combine_buffer] = false;
    rank.combine(std::move(flight.received), input, round.output());
    round.check_output(rank.log);
    max_in_flight.erase(std::next(max_in_flight.begin(), s.which));
  }

  /// Rows lie in the caller's memory, or in a library buffer that is free to be written.
  void combine_plan(const Step& s, const Answers& right) {
    TestCase staged = test;
    Targets targets;
    const auto free =
        std::find_if(may_write.begin(), may_write.end(), [](const auto& b) { return b.first && b.second; });
    staged.config.zero_copy = test.config.zero_copy && free != may_write.end() && !deferred_release(free->first);
    if (staged.config.zero_copy) {
      targets.combine_buffer = const_cast<void*>(free->first);
      free->second = false;
    }
    Round round(staged, right, rank.rank());
    rank.exchange.combine(plan(s).plan, round.run_experts(targets), round.output());
    round.check_output(rank.log);
  }

  bool deferred_release(const void* buffer) const {
    for (const InFlight& f : max_in_flight)
      if (f.targets.combine_buffer == buffer) return true;
    return false;
  }
};

}  // namespace

std::vector<Step> random_script(const TestCase& test, std::uint64_t seed, int num_steps) {
  std::mt19937_64 random(seed);
  const auto below = [&](std::size_t n) { return static_cast<int>(random() % n); };
  std::vector<Step> script;
  std::vector<std::uint64_t> flying, kept;  // routing of each
  std::vector<bool> keepable;
  while (static_cast<int>(script.size()) < num_steps) {
    Step s{static_cast<Do>(below(7)), 0, 1 + random() % 5, random() % 3};
    const bool on_plan = s.what == Do::replay || s.what == Do::combine_plan || s.what == Do::drop_plan;
    const bool on_flight = s.what == Do::keep || s.what == Do::combine || s.what == Do::drop_received;
    const bool full = flying.size() == static_cast<std::size_t>(test.config.max_in_flight);
    if ((s.what == Do::dispatch || s.what == Do::replay) && full) continue;
    if ((on_plan && kept.empty()) || (on_flight && flying.empty())) continue;
    if ((s.what == Do::drop_plan || s.what == Do::drop_received) && below(3) > 0) continue;  // rather use them
    if (s.what == Do::combine_plan && test.config.fused) continue;
    if (on_plan) s.which = below(kept.size()), s.routing = kept[s.which];
    if (on_flight) s.which = below(flying.size()), s.routing = flying[s.which];
    if (s.what == Do::keep) {
      if (kept.size() == static_cast<std::size_t>(test.config.max_kept_plans) || !keepable[s.which]) continue;
      kept.push_back(s.routing);
      keepable[s.which] = false;
    }
    if (s.what == Do::dispatch || s.what == Do::replay)
      flying.push_back(s.routing), keepable.push_back(s.what == Do::dispatch);
    if (s.what == Do::combine || s.what == Do::drop_received) {
      flying.erase(flying.begin() + s.which);
      keepable.erase(keepable.begin() + s.which);
    }
    if (s.what == Do::drop_plan) kept.erase(kept.begin() + s.which);
    script.push_back(s);
  }
  return script;
}

std::string text_of(const std::vector<Step>& script) {
  constexpr const char* kNames[] = {"dispatch",     "replay",        "keep",     "combine",
                                    "combine_plan", "drop_received", "drop_plan"};
  std::string text;
  for (const Step& s : script)
    text += std::string(text.empty() ? "" : ", ") + kNames[static_cast<int>(s.what)] + " #" + std::to_string(s.which) +
            " r" + std::to_string(s.routing) + " p" + std::to_string(s.payload);
  return text;
}

std::string run_script(const TestCase& test, const std::vector<Step>& script, bool skew) {
  Book book(test);
  std::vector<const Answers*> answers;
  for (const Step& s : script) answers.push_back(&book.of(s.routing, s.payload));
  Log log;
  run_ranks(test, log, [&](Rank& rank) {
    std::mt19937_64 random(static_cast<unsigned>(rank.rank()) + 99);
    Player player{rank, test, script, answers};
    for (std::size_t i = 0; i < script.size() && log.empty(); ++i) {
      if (skew && random() % 3 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 2000));
      player.step(i);
      if (!log.empty()) log.add("rank ", rank.rank(), " stops at step ", i);
    }
  });
  return log.empty() ? "" : log.text() + "case: " + text_of(test) + "\nscript: " + text_of(script) + "\n";
}

}  // namespace crossdock::testing
