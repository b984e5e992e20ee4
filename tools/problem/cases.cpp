// SPDX-License-Identifier: Apache-2.0
#include "problem/cases.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <variant>

#include "command/failures.hpp"
#include "command/names.hpp"
#include "oracle/random.hpp"

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;

using Number = std::int64_t;
using Numbers = std::vector<Number>;
using Text = std::string;
using Texts = std::vector<Text>;

/* type, key, default: FlyDSL's attributes under its names, with the defaults of its command line; then ours. docs/cases.md
   has them all. */
#define XD_ATTRIBUTES(X)              \
  X(Number, max_tokens_per_rank, 512) \
  X(Number, hidden_dim, 7168)         \
  X(Number, k, 8)                     \
  X(Number, num_experts_per_rank, 32) \
  X(Number, world_size, 8)            \
  X(Text, dtype, "bf16")              \
  X(Text, combine_dtype, "")          \
  X(Text, quant_type, "none")         \
  X(Text, routing, "random")          \
  X(bool, zero_copy, false)           \
  X(bool, enable_std_moe, false)      \
  X(Number, scale_dim, 0)             \
  X(Number, scale_type_size, 0)       \
  X(Number, max_total_recv_tokens, 0) \
  X(Number, max_token_type_size, 0)   \
  X(Number, dispatch_block_num, 0)    \
  X(Number, combine_block_num, 0)     \
  X(Text, layout, "")                 \
  X(Text, path, "")                   \
  X(Text, combine_quant, "")          \
  X(Text, fill, "moderate")           \
  X(Number, num_experts, 0)           \
  X(Number, row_capacity, 0)          \
  X(Number, expert_capacity, 0)       \
  X(Number, alignment, 1)             \
  X(bool, zero_padding, false)        \
  X(Number, seed, 42)                 \
  X(Numbers, tokens, {})              \
  X(bool, skip_profile, false)        \
  X(bool, skip_ci, false)             \
  X(Text, known_failure, "")          \
  X(Texts, requires_arch, {})

struct Attributes {
#define XD_MEMBER(Type, name, value) Type name = value;
  XD_ATTRIBUTES(XD_MEMBER)
#undef XD_MEMBER
  Number ignored = 0;
  bool ragged = false;
};

using Field = std::variant<Number Attributes::*, Numbers Attributes::*, Text Attributes::*, Texts Attributes::*,
                           bool Attributes::*>;

const std::map<std::string, Field>& fields() {
  static const std::map<std::string, Field> all = [] {
#define XD_FIELD(Type, name, value) {#name, &Attributes::name},
    std::map<std::string, Field> fields = {XD_ATTRIBUTES(XD_FIELD)};
#undef XD_FIELD
    fields["max_tokens"] = &Attributes::max_tokens_per_rank;  // FlyDSL's name
    // how its harness times and launches; a check needs none of it
    for (const char* key :
         {"block_num", "warp_per_block", "warp_num_per_block", "dispatch_warp_per_block", "dispatch_warp_num_per_block",
          "combine_warp_per_block", "combine_warp_num_per_block", "iters", "warmup"})
      fields[key] = &Attributes::ignored;
    return fields;
  }();
  return all;
}

/// Our name of what FlyDSL calls so. Its `random` puts a token's experts on distinct ranks; `uniform` is ours for k distinct
/// experts of all.
std::string ours(const std::string& name) {
  static const std::map<std::string, std::string> of_flydsl = {
      {"float8_e4m3fn", "fp8_e4m3"}, {"float8_e4m3fnuz", "fp8_e4m3fnuz"}, {"fp4", "fp4_e2m1"},
      {"random", "distinct_ranks"},  {"forced_hot_spot", "hot_spot"},     {"soft_hot_pe", "soft_hot"},
      {"uniform", "random"}};
  const auto found = of_flydsl.find(name);
  return found == of_flydsl.end() ? name : found->second;
}

/// Reads one object.
class CaseReader {
 public:
  CaseReader(const Json& object, const CaseOptions& options) : object_(object), options_(options) {
    if (!object.is_object() || !object.contains("name") || !object["name"].is_string())
      throw BadInput("every case must be an object with a string `name`; this one is {:.80}", object.dump());
    result_.name = object["name"];
  }

  CheckCase read() {
    for (const auto& [key, value] : object_.items())
      if (key == "_random_fields")
        draw(value);
      else if (key == "tokens" && value == "ragged")
        attributes_.ragged = true;
      else if (key != "name")
        set(key, value);
    fill_case();
    return result_;
  }

 private:
  template <class... Values>
  [[noreturn]] void complain(fmt::format_string<Values...> text, Values&&... values) const {
    throw BadInput("case `{}`: {}", result_.name, fmt::format(text, std::forward<Values>(values)...));
  }
  void require(bool fits, const std::string& key, const char* what, const Json& value) const {
    if (!fits) complain("{} must be {}, not {}", key, what, value.dump());
  }

  void take(bool& to, const std::string& key, const Json& value) const {
    require(value.is_boolean(), key, "true or false", value);
    to = value;
  }
  void take(Number& to, const std::string& key, const Json& value) const {
    require(value.is_number_integer() && value >= 0, key, "a whole number from 0", value);
    to = value;
  }
  void take(Text& to, const std::string& key, const Json& value) const {
    require(value.is_string() || value.is_null(), key, "a string", value);
    to = value.is_null() ? "" : value.get<Text>();
  }
  template <class Value>
  void take(std::vector<Value>& to, const std::string& key, const Json& value) const {
    require(value.is_array(), key, "a list", value);
    to.clear();
    for (const Json& element : value) take(to.emplace_back(), key, element);
  }

  void set(const std::string& key, const Json& value) {
    const auto found = fields().find(key);
    if (found == fields().end()) complain("unknown key `{}`{}", key, hint_of_renamed(key));
    std::visit([&](auto member) { take(attributes_.*member, key, value); }, found->second);
  }

  void draw(const Json& lists) {
    require(lists.is_object(), "_random_fields", "an object of lists", lists);
    for (const auto& [field, values] : lists.items()) {
      require(values.is_array() && !values.empty(), field, "a list that is not empty", values);
      std::uint64_t name = 0;
      for (const char c : result_.name + "/" + field) name = oracle::hash_of({name, static_cast<unsigned char>(c)});
      const Json& value = values[oracle::hash_of({options_.seed, name}) % values.size()];
      set(field, value);
      result_.drawn.push_back(fmt::format("{} = {}", field, value.dump()));
    }
  }

  /// What a name says, or a complaint.
  template <class Value>
  Value known(const char* key, const std::string& name, const std::optional<Value>& value) const {
    if (!value) complain("unknown {} `{}`", key, name);
    return *value;
  }
  Dtype dtype(const std::string& name) const { return known("dtype", name, named<Dtype>(kDtypeNames, ours(name))); }

  void fill_case() {
    const Attributes& a = attributes_;
    Problem& p = result_.problem;
    oracle::Case& c = p.shape;
    c.num_ranks = static_cast<int>(options_.num_ranks ? options_.num_ranks : a.world_size);
    c.num_experts = static_cast<int>(a.num_experts ? a.num_experts : c.num_ranks * a.num_experts_per_rank);
    c.top_k = static_cast<int>(a.k);
    c.dispatch_dtype = dtype(a.dtype);
    c.combine_dtype = a.combine_dtype.empty() ? c.dispatch_dtype : dtype(a.combine_dtype);
    c.scale_bytes = static_cast<int>(a.scale_dim * a.scale_type_size);
    c.alignment = static_cast<int>(a.alignment);
    p.zero_padding = a.zero_padding;
    p.routing = known("routing", a.routing, oracle::routing_named(ours(a.routing)));
    p.fill = known("fill", a.fill, oracle::fill_named(a.fill));
    p.seed = static_cast<std::uint64_t>(a.seed);
    p.second_result = true;
    result_.skip_profile = a.skip_profile;
    result_.skip_ci = a.skip_ci;
    result_.known_failure = a.known_failure;
    result_.requires_arch = a.requires_arch;
    result_.dispatch_blocks = static_cast<int>(a.dispatch_block_num);
    result_.combine_blocks = static_cast<int>(a.combine_block_num);
    fill_forms();
    fill_sizes();
  }

  /// Layout, path and wire: by FlyDSL's flags, or by our names.
  void fill_forms() {
    const Attributes& a = attributes_;
    Problem& p = result_.problem;
    p.shape.layout = a.enable_std_moe ? Layout::expert_major : Layout::token_major;
    p.path = a.zero_copy ? Path::zero_copy : Path::staged;
    if (a.quant_type == "fp8_direct_cast")
      p.shape.combine_quant = CombineQuant::fp8_direct_cast;
    else if (!a.quant_type.empty() && a.quant_type != "none")
      complain("unknown quant_type `{}`", a.quant_type);
    const auto choose = [&](auto& value, const char* key, const std::string& name, const auto& names) {
      if (!name.empty()) value = known(key, name, named<std::decay_t<decltype(value)>>(names, name));
    };
    choose(p.shape.layout, "layout", a.layout, kLayoutNames);
    choose(p.path, "path", a.path, kPathNames);
    choose(p.shape.combine_quant, "combine_quant", a.combine_quant, kCombineQuantNames);
  }

  /// Hidden, tokens and capacities, scaled as the command line asks.
  void fill_sizes() {
    const Attributes& a = attributes_;
    Problem& p = result_.problem;
    oracle::Case& c = p.shape;
    c.max_tokens_per_rank =
        static_cast<int>(options_.most_tokens > 0 ? std::min<std::int64_t>(a.max_tokens_per_rank, options_.most_tokens)
                                                  : a.max_tokens_per_rank);
    c.hidden = static_cast<int>(a.hidden_dim / options_.scale_hidden);
    Config config = config_of(p);
    if (options_.scale_hidden > 1 && c.hidden != near_hidden(config).below) c.hidden = near_hidden(config).above;
    const std::int64_t all_before = a.world_size * a.max_tokens_per_rank,
                       all = std::int64_t{c.num_ranks} * c.max_tokens_per_rank;
    const auto scaled = [&](std::int64_t rows) {
      return all_before > 0 ? (rows * all + all_before - 1) / all_before : rows;
    };
    c.row_capacity = scaled(a.row_capacity);
    c.expert_capacity = scaled(a.expert_capacity);
    if (a.max_total_recv_tokens > 0) {  // FlyDSL's rule: a share for every rank, rounded up
      const std::int64_t share = (scaled(a.max_total_recv_tokens) + c.num_ranks - 1) / c.num_ranks;
      c.row_capacity = c.num_ranks * std::min<std::int64_t>(share, c.max_tokens_per_rank);
    }
    if (a.ragged) p.tokens = oracle::ragged_tokens(c.num_ranks, c.max_tokens_per_rank, p.seed);
    for (int r = 0; r < c.num_ranks && !a.tokens.empty(); ++r)
      p.tokens.push_back(
          static_cast<int>(std::min<std::int64_t>(a.tokens[r % a.tokens.size()], c.max_tokens_per_rank)));
  }

  const Json& object_;
  const CaseOptions& options_;
  CheckCase result_;
  Attributes attributes_;
};

}  // namespace

std::vector<CheckCase> read_cases(const std::string& file, const CaseOptions& options) {
  std::ifstream in(file);
  if (!in) throw BadInput("cannot read the case file {}", file);
  Json list;
  try {
    list = Json::parse(in);
  } catch (const nlohmann::json::parse_error& error) {
    throw BadInput("{} is no JSON: {}", file, error.what());
  }
  if (!list.is_array()) throw BadInput("{} must be a list of cases", file);
  std::vector<CheckCase> cases;
  for (const Json& object : list) {
    cases.push_back(CaseReader(object, options).read());
    for (std::size_t i = 0; i + 1 < cases.size(); ++i)
      if (cases[i].name == cases.back().name) throw BadInput("{} has two cases `{}`", file, cases.back().name);
  }
  return cases;
}

}  // namespace crossdock::tools
