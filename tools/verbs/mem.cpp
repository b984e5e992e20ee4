// SPDX-License-Identifier: Apache-2.0
// `crossdock mem`: what an exchange takes, region by region, and the most tokens that fit a budget.
#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "problem/rows.hpp"

namespace crossdock::tools {
namespace {

struct MemOptions {
  Config config;
  int num_ranks = 8;
  BackendKind backend = BackendKind::cpu;
  std::string fit, limit;
  bool json = false, scales_given = false;
};

/// Largest M whose exchange takes at most `budget` bytes. Memory grows with M, so halving finds it.
std::int32_t most_tokens(MemOptions o, std::uint64_t budget) {
  Config& c = o.config;
  const auto fits = [&](std::int64_t tokens) {
    c.max_tokens_per_rank = static_cast<std::int32_t>(tokens);
    return supports(c, o.num_ranks) && memory_of(c, o.num_ranks, o.backend).total_bytes <= budget;
  };
  std::int64_t low = std::max<std::int64_t>(1, (c.row_capacity + o.num_ranks - 1) / o.num_ranks), high = 1 << 24;
  if (!fits(low)) {
    require_support(c, o.num_ranks);
    throw BadInput("--fit {}: {} tokens a rank take {} already", o.fit, low,
                   bytes_text(static_cast<double>(memory_of(c, o.num_ranks, o.backend).total_bytes)));
  }
  while (high - low > 1) {  // low fits, high does not
    const std::int64_t middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return static_cast<std::int32_t>(low);
}

void print_bill(const MemOptions& o, const MemoryUsage& bill) {
  std::size_t widest = 0;
  for (const RegionBytes& region : bill.regions) widest = std::max(widest, region.name.size());
  const auto line = [&](const std::string& name, std::uint64_t bytes, const std::string& content) {
    fmt::print("{:<{}} {:>20}  {}\n", name, widest, grouped(static_cast<std::int64_t>(bytes)), content);
  };
  const auto total = static_cast<double>(bill.total_bytes);
  for (const RegionBytes& region : bill.regions) line(region.name, region.bytes, region.content);
  line("sum", bill.total_bytes,
       fmt::format("bytes a rank ({}); {} ranks: {}", bytes_text(total), o.num_ranks, bytes_text(total * o.num_ranks)));
}

void print_json(const MemOptions& o, const MemoryUsage& bill) {
  nlohmann::ordered_json json;
  json["ranks"] = o.num_ranks;
  json["backend"] = name_of(o.backend);
  json["max_tokens_per_rank"] = o.config.max_tokens_per_rank;
  json["regions"] = nlohmann::ordered_json::array();
  for (const RegionBytes& region : bill.regions)
    json["regions"].push_back({{"name", region.name}, {"content", region.content}, {"bytes", region.bytes}});
  json["total_bytes"] = bill.total_bytes;
  fmt::print("{}\n", json.dump(2));
}

void show_memory(MemOptions o) {
  if (!o.scales_given) o.config.scale_bytes = scale_bytes_of(o.config.dispatch_dtype, o.config.hidden);
  if (!o.fit.empty()) {
    o.config.max_tokens_per_rank = most_tokens(o, bytes_from(o.fit));
    if (!o.json) fmt::print("at most {} tokens a rank fit {}\n\n", grouped(o.config.max_tokens_per_rank), o.fit);
  }
  require_support(o.config, o.num_ranks);
  const MemoryUsage bill = memory_of(o.config, o.num_ranks, o.backend);
  o.json ? print_json(o, bill) : print_bill(o, bill);
  if (!o.limit.empty() && bill.total_bytes > bytes_from(o.limit))
    throw Failed("mem: a rank takes {} bytes, --limit {} are {}", grouped(static_cast<std::int64_t>(bill.total_bytes)),
                 o.limit, grouped(static_cast<std::int64_t>(bytes_from(o.limit))));
}

void add_capacity_flags(CLI::App& app, Config& c) {
  app.add_option("--row-capacity", c.row_capacity, "Received rows; 0: the worst case")->capture_default_str();
  app.add_option("--expert-capacity", c.expert_capacity,
                 "expert_major: rows per expert, contiguous: in all; 0: the worst case")
      ->capture_default_str();
  app.add_option("--max-in-flight", c.max_in_flight, "Received that may live at once")->capture_default_str();
  app.add_option("--max-kept-plans", c.max_kept_plans, "Plans that may be kept at once")->capture_default_str();
  app.add_flag("--fused", c.fused, "Combine slots for combine_fused");
  app.add_flag("--combine-topk-weights", c.combine_topk_weights, "combine can return summed weights");
}

void add_mem(CLI::App& app) {
  CLI::App* mem = app.add_subcommand("mem", "Bytes that one rank of an exchange takes, before anything is allocated");
  mem->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  const auto options = std::make_shared<MemOptions>();
  MemOptions& o = *options;
  o.config.hidden = 7168, o.config.num_experts = 256, o.config.top_k = 8, o.config.max_tokens_per_rank = 4096;
  add_shape_flags(*mem, o.config, o.num_ranks);
  add_number(*mem, "--tokens", o.config.max_tokens_per_rank, 1, kMostTokens, "Most tokens a rank passes in one call");
  add_row_flags(*mem, o.config);
  mem->add_option("--scale-bytes", o.config.scale_bytes,
                  "Bytes that travel with each token. Default: fp8 one f32 per 128 elements, fp4 one byte per 32")
      ->check(CLI::Range(0, 65536));
  add_capacity_flags(*mem, o.config);
  add_enum(*mem, "--backend", o.backend, kBackendNames, "Whose page size counts");
  mem->add_option("--fit", o.fit, "Find the most tokens whose exchange takes at most so many bytes a rank, e.g. 24GiB");
  mem->add_option("--limit", o.limit, "Exit code 1 if a rank takes more bytes than this, e.g. 0.75GB");
  mem->add_flag("--json", o.json, "Print JSON");
  mem->callback([options, mem] {
    options->scales_given = mem->count("--scale-bytes") > 0;
    show_memory(*options);
  });
}

const Verb kVerb{40, add_mem};

}  // namespace
}  // namespace crossdock::tools
