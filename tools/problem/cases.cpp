// SPDX-License-Identifier: Apache-2.0
#include "problem/cases.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <variant>

#include "command/failures.hpp"
#include "command/old_names.hpp"
#include "oracle/random.hpp"

namespace crossdock::tools {
namespace {

using Json = nlohmann::ordered_json;

/// FlyDSL's attributes under its names, with the defaults of its command line; then ours. docs/cases.md has them all.
struct Attributes {
  std::int64_t max_tokens_per_rank = 512, hidden_dim = 7168, k = 8, num_experts_per_rank = 32, world_size = 8;
  std::string dtype = "bf16", combine_dtype, quant_type = "none", routing = "random";
  bool zero_copy = false, enable_std_moe = false;
  std::int64_t scale_dim = 0, scale_type_size = 0, max_total_recv_tokens = 0, max_token_type_size = 0;
  std::int64_t dispatch_block_num = 0, combine_block_num = 0, ignored = 0;
  std::string layout, path, combine_quant, fill = "moderate";
  std::int64_t num_experts = 0, row_capacity = 0, expert_capacity = 0, alignment = 1, seed = 42;
  bool zero_padding = false;
  std::vector<std::int64_t> tokens;
  bool ragged = false;
};

using Field = std::variant<std::int64_t Attributes::*, std::string Attributes::*, bool Attributes::*>;

const std::map<std::string, Field>& fields() {
  static const std::map<std::string, Field> all = {
      {"max_tokens_per_rank", &Attributes::max_tokens_per_rank},
      {"max_tokens", &Attributes::max_tokens_per_rank},  // FlyDSL's name
      {"hidden_dim", &Attributes::hidden_dim},
      {"k", &Attributes::k},
      {"num_experts_per_rank", &Attributes::num_experts_per_rank},
      {"world_size", &Attributes::world_size},
      {"dtype", &Attributes::dtype},
      {"combine_dtype", &Attributes::combine_dtype},
      {"quant_type", &Attributes::quant_type},
      {"routing", &Attributes::routing},
      {"zero_copy", &Attributes::zero_copy},
      {"enable_std_moe", &Attributes::enable_std_moe},
      {"scale_dim", &Attributes::scale_dim},
      {"scale_type_size", &Attributes::scale_type_size},
      {"max_total_recv_tokens", &Attributes::max_total_recv_tokens},
      {"max_token_type_size", &Attributes::max_token_type_size},
      {"dispatch_block_num", &Attributes::dispatch_block_num},
      {"combine_block_num", &Attributes::combine_block_num},
      // how its harness times and launches; a check needs none of it
      {"block_num", &Attributes::ignored},
      {"warp_per_block", &Attributes::ignored},
      {"warp_num_per_block", &Attributes::ignored},
      {"dispatch_warp_per_block", &Attributes::ignored},
      {"dispatch_warp_num_per_block", &Attributes::ignored},
      {"combine_warp_per_block", &Attributes::ignored},
      {"combine_warp_num_per_block", &Attributes::ignored},
      {"iters", &Attributes::ignored},
      {"warmup", &Attributes::ignored},
      // ours
      {"layout", &Attributes::layout},
      {"path", &Attributes::path},
      {"combine_quant", &Attributes::combine_quant},
      {"fill", &Attributes::fill},
      {"num_experts", &Attributes::num_experts},
      {"row_capacity", &Attributes::row_capacity},
      {"expert_capacity", &Attributes::expert_capacity},
      {"alignment", &Attributes::alignment},
      {"zero_padding", &Attributes::zero_padding},
      {"seed", &Attributes::seed},
  };
  return all;
}

[[noreturn]] void complain(const std::string& name, const std::string& what) {
  throw BadInput("case `" + name + "`: " + what);
}

/// Reads one object into attributes and meta keys.
class CaseReader {
 public:
  CaseReader(const Json& object, const CaseOptions& options) : object_(object), options_(options) {
    if (!object.is_object() || !object.contains("name") || !object["name"].is_string())
      throw BadInput("every case must be an object with a string `name`; this one is " + object.dump().substr(0, 80));
    result_.name = object["name"];
  }

  CheckCase read() {
    for (const auto& [key, value] : object_.items())
      if (!read_meta(key, value)) set(key, value);
    fill_case();
    return result_;
  }

 private:
  std::string text(const std::string& key, const Json& value) const {
    if (!value.is_string()) complain(result_.name, key + " must be a string, not " + value.dump());
    return value;
  }
  bool flag(const std::string& key, const Json& value) const {
    if (!value.is_boolean()) complain(result_.name, key + " must be true or false, not " + value.dump());
    return value;
  }
  std::int64_t number(const std::string& key, const Json& value) const {
    if (!value.is_number_integer() || value < 0)
      complain(result_.name, key + " must be a whole number from 0, not " + value.dump());
    return value;
  }

  bool read_meta(const std::string& key, const Json& value) {
    if (key == "name") return true;
    if (key == "skip_profile") return result_.skip_profile = flag(key, value), true;
    if (key == "skip_ci") return result_.skip_ci = flag(key, value), true;
    if (key == "known_failure") return result_.known_failure = text(key, value), true;
    if (key == "requires_arch") {
      if (!value.is_array()) complain(result_.name, key + " must be a list of strings, not " + value.dump());
      for (const Json& arch : value) result_.requires_arch.push_back(text(key, arch));
      return true;
    }
    if (key == "_random_fields") return draw(value), true;
    if (key == "tokens") return read_tokens(value), true;
    return false;
  }

  void read_tokens(const Json& value) {
    attributes_.ragged = value == "ragged";
    if (attributes_.ragged) return;
    if (!value.is_array() || value.empty())
      complain(result_.name, "tokens must be \"ragged\" or a list of numbers, not " + value.dump());
    for (const Json& t : value) attributes_.tokens.push_back(number("tokens", t));
  }

  void draw(const Json& lists) {
    if (!lists.is_object()) complain(result_.name, "_random_fields must be an object of lists, not " + lists.dump());
    for (const auto& [field, values] : lists.items()) {
      if (!values.is_array() || values.empty())
        complain(result_.name, "_random_fields: " + field + " must be a list that is not empty");
      std::uint64_t name = 0;
      for (const char c : result_.name + "/" + field) name = oracle::hash_of({name, static_cast<unsigned char>(c)});
      const Json& value = values[oracle::hash_of({options_.seed, name}) % values.size()];
      set(field, value);
      result_.drawn.push_back(field + " = " + value.dump());
    }
  }

  void set(const std::string& key, const Json& value) {
    const auto found = fields().find(key);
    if (found == fields().end()) complain(result_.name, "unknown key `" + key + "`" + hint_of_renamed(key));
    std::visit(
        [&](auto member) {
          using Value = std::decay_t<decltype(attributes_.*member)>;
          if constexpr (std::is_same_v<Value, bool>)
            attributes_.*member = flag(key, value);
          else if constexpr (std::is_same_v<Value, std::string>)
            attributes_.*member = value.is_null() ? std::string() : text(key, value);
          else
            attributes_.*member = number(key, value);
        },
        found->second);
  }

  Dtype dtype(const std::string& name) const {
    static const std::map<std::string, Dtype> of_flydsl = {
        {"float8_e4m3fn", Dtype::fp8_e4m3}, {"float8_e4m3fnuz", Dtype::fp8_e4m3fnuz}, {"fp4", Dtype::fp4_e2m1}};
    if (const auto found = of_flydsl.find(name); found != of_flydsl.end()) return found->second;
    return one_of<Dtype>("dtype", name, kDtypeNames);
  }
  template <class Enum, std::size_t kCount>
  Enum one_of(const char* key, const std::string& name, const std::string_view (&names)[kCount]) const {
    for (std::size_t i = 0; i < kCount; ++i)
      if (names[i] == name) return static_cast<Enum>(i);
    complain(result_.name, std::string("unknown ") + key + " `" + name + "`");
  }

  /// FlyDSL's `random` puts a token's experts on distinct ranks; `uniform` is ours for k distinct experts of all.
  oracle::Routing routing(const std::string& name) const {
    static const std::map<std::string, oracle::Routing> of_flydsl = {{"random", oracle::Routing::distinct_ranks},
                                                                     {"forced_hot_spot", oracle::Routing::hot_spot},
                                                                     {"soft_hot_pe", oracle::Routing::soft_hot},
                                                                     {"uniform", oracle::Routing::random}};
    if (const auto found = of_flydsl.find(name); found != of_flydsl.end()) return found->second;
    if (const auto routing = oracle::routing_named(name)) return *routing;
    complain(result_.name, "unknown routing `" + name + "`");
  }

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
    p.routing = routing(a.routing);
    if (const auto fill = oracle::fill_named(a.fill))
      p.fill = *fill;
    else
      complain(result_.name, "unknown fill `" + a.fill + "`");
    p.seed = static_cast<std::uint64_t>(a.seed);
    p.second_result = true;
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
      complain(result_.name, "unknown quant_type `" + a.quant_type + "`");
    if (!a.layout.empty()) p.shape.layout = one_of<Layout>("layout", a.layout, kLayoutNames);
    if (!a.path.empty()) p.path = one_of<Path>("path", a.path, kPathNames);
    if (!a.combine_quant.empty())
      p.shape.combine_quant = one_of<CombineQuant>("combine_quant", a.combine_quant, kCombineQuantNames);
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
  if (!in) throw BadInput("cannot read the case file " + file);
  Json list;
  try {
    list = Json::parse(in);
  } catch (const nlohmann::json::parse_error& error) {
    throw BadInput(file + " is no JSON: " + error.what());
  }
  if (!list.is_array()) throw BadInput(file + " must be a list of cases");
  std::vector<CheckCase> cases;
  for (const Json& object : list) {
    cases.push_back(CaseReader(object, options).read());
    for (std::size_t i = 0; i + 1 < cases.size(); ++i)
      if (cases[i].name == cases.back().name) throw BadInput(file + " has two cases `" + cases.back().name + "`");
  }
  return cases;
}

}  // namespace crossdock::tools
