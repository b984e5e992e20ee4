// SPDX-License-Identifier: Apache-2.0
#include "support/test_case.hpp"

#include <charconv>
#include <concepts>
#include <sstream>
#include <stdexcept>

#include "support/rank_memory.hpp"

namespace crossdock::testing {
namespace {

/// Calls member(name, reference) for every member of a case, in the order in which the text has them.
template <class Test, class Member>
void visit(Test& t, Member&& member) {
  member("ranks", t.num_ranks);
  member("hidden", t.config.hidden);
  member("experts", t.config.num_experts);
  member("k", t.config.top_k);
  member("M", t.config.max_tokens_per_rank);
  member("dispatch", t.config.dispatch_dtype);
  member("combine", t.config.combine_dtype);
  member("combine_quant", t.config.combine_quant);
  member("scale_bytes", t.config.scale_bytes);
  member("layout", t.config.layout);
  member("row_capacity", t.config.row_capacity);
  member("expert_capacity", t.config.expert_capacity);
  member("alignment", t.config.alignment);
  member("zero_padding", t.config.zero_padding);
  member("overflow", t.config.overflow);
  member("zero_copy", t.config.zero_copy);
  member("fused", t.config.fused);
  member("combine_topk_weights", t.config.combine_topk_weights);
  member("max_in_flight", t.config.max_in_flight);
  member("max_kept_plans", t.config.max_kept_plans);
  member("num_sms", t.config.num_sms);
  member("num_blocks", t.config.num_blocks);
  member("num_warps", t.config.num_warps);
  member("config_splits", t.config.splits_per_row);
  member("routing", t.recipe.routing);
  member("fill", t.recipe.fill);
  member("seed", t.recipe.seed);
  member("weights", t.recipe.weights);
  member("weight_fill", t.recipe.weight_fill);
  member("T", t.recipe.tokens);
  member("backend", t.backend);
  member("width", t.executor.width);
  member("blocks", t.executor.num_blocks);
  member("threads", t.executor.num_threads);
  member("splits", t.executor.splits_per_row);
  member("num_waiting_blocks", t.executor.num_waiting_blocks);
  member("as_asked", t.executor.as_asked);
  member("push", t.executor.push);
  member("order", t.executor.seed);
  member("int64", t.topk_ids_are_int64);
  member("device_tokens", t.device_tokens);
  member("combine_topk_weights", t.combine_topk_weights);
  member("caller_weights", t.caller_weights);
  member("in_place", t.in_place);
  member("rounds", t.rounds);
}

void write(std::ostream& out, const std::vector<int>& values) {
  for (std::size_t i = 0; i < values.size(); ++i) out << (i > 0 ? "," : "") << values[i];
}
void write(std::ostream& out, std::integral auto value) { out << value; }
template <class E>
requires std::is_enum_v<E>
void write(std::ostream& out, E value) { out << name_of(value); }

void read(std::string_view text, std::integral auto& value) {
  std::int64_t number = 0;
  std::uint64_t big = 0;  // seeds may need all 64 bits
  if (std::from_chars(text.data(), text.data() + text.size(), number).ec == std::errc{}) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(number);
  } else if (std::from_chars(text.data(), text.data() + text.size(), big).ec == std::errc{}) {
    value = static_cast<std::remove_reference_t<decltype(value)>>(big);
  } else {
    throw std::invalid_argument("not a number: " + std::string(text));
  }
}
void read(std::string_view text, std::vector<int>& values) {
  values.clear();
  while (!text.empty()) {
    const std::size_t comma = std::min(text.find(','), text.size());
    read(text.substr(0, comma), values.emplace_back());
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
}
constexpr std::size_t count_of(Dtype) { return std::size(kDtypeNames); }
constexpr std::size_t count_of(CombineQuant) { return std::size(kCombineQuantNames); }
constexpr std::size_t count_of(Layout) { return std::size(kLayoutNames); }
constexpr std::size_t count_of(Overflow) { return std::size(kOverflowNames); }
constexpr std::size_t count_of(BackendKind) { return std::size(kBackendNames); }
constexpr std::size_t count_of(oracle::Routing) { return std::size(oracle::kRoutings); }
constexpr std::size_t count_of(oracle::Fill) { return std::size(oracle::kFills); }

template <class E>
requires std::is_enum_v<E>
void read(std::string_view text, E& value) {
  for (std::size_t i = 0; i < count_of(E{}); ++i) {
    if (name_of(static_cast<E>(i)) != text) continue;
    value = static_cast<E>(i);
    return;
  }
  throw std::invalid_argument("not a name of its list: " + std::string(text));
}

template <class T>
std::string written(const T& value) {
  std::ostringstream out;
  write(out, value);
  return out.str();
}

}  // namespace

TestCase small_case(int num_ranks) {
  TestCase test;
  test.num_ranks = num_ranks;
  test.backend = backend_of_tests();
  test.config.hidden = 128;
  test.config.num_experts = 8;
  test.config.top_k = 2;
  test.config.max_tokens_per_rank = 8;
  return test;
}

Path path_of(const Config& config) {
  return config.fused ? Path::fused : config.zero_copy ? Path::zero_copy : Path::staged;
}

void set_path(Config& config, Path path) {
  config.fused = path == Path::fused;
  config.zero_copy = path == Path::zero_copy;
}

std::string text_of(const TestCase& test) {
  std::vector<std::string> standard;
  const TestCase base = small_case();
  visit(base, [&](const char*, const auto& value) { standard.push_back(written(value)); });
  std::ostringstream out;
  std::size_t idx = 0;
  visit(test, [&](const char* name, const auto& value) {
    const std::string mine = written(value);
    if (mine != standard[idx++]) out << (out.tellp() > 0 ? " " : "") << name << "=" << mine;
  });
  return out.str();
}

TestCase case_of(std::string_view text) {
  TestCase test = small_case();
  std::istringstream in{std::string(text)};
  for (std::string word; in >> word;) {
    const std::size_t equals = std::min(word.find('='), word.size());
    bool known = false;
    visit(test, [&](const char* name, auto& value) {
      if (word.compare(0, equals, name) != 0 || equals == word.size()) return;
      read(std::string_view(word).substr(equals + 1), value);
      known = true;
    });
    if (!known) throw std::invalid_argument("no member of a test case: " + word);
  }
  return test;
}

oracle::Case oracle_case(const TestCase& test) {
  const Config& c = test.config;
  oracle::Case o;
  o.num_ranks = test.num_ranks;
  o.hidden = c.hidden;
  o.num_experts = c.num_experts;
  o.top_k = c.top_k;
  o.max_tokens_per_rank = c.max_tokens_per_rank;
  o.dispatch_dtype = c.dispatch_dtype;
  o.combine_dtype = c.combine_dtype;
  o.combine_quant = c.combine_quant;
  o.scale_bytes = c.scale_bytes;
  o.layout = c.layout;
  o.row_capacity = c.row_capacity;
  o.expert_capacity = c.expert_capacity;
  o.alignment = c.alignment;
  return o;
}

}  // namespace crossdock::testing
