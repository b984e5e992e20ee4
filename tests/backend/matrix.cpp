// SPDX-License-Identifier: Apache-2.0
#include "backend/matrix.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

#include "support/instances.hpp"

namespace crossdock::testing {
namespace {

template <class E, std::size_t kCount>
std::vector<E> all_of(const std::string_view (&)[kCount]) {
  std::vector<E> all;
  for (std::size_t i = 0; i < kCount; ++i) all.push_back(static_cast<E>(i));
  return all;
}

/// Whether creating an exchange of this config is refused for this reason.
std::string refused_for(const TestCase& test, const std::string& reason) {
  const ThreadTeam team(1);
  GroupOptions options;
  options.backend = test.backend;
  const Group group = Group::join(team, 0, options);
  try {
    const Exchange exchange(group, test.config);
  } catch (const ConfigError& error) {
    const bool same = std::string(error.what()).find(reason) != std::string::npos;
    return same ? "" : std::string("Exchange says otherwise: ") + error.what();
  }
  return "an exchange of it was made all the same";
}

/// Whether both creating an exchange of this config and asking for its memory are refused, the first in the same words.
std::string refused_alike(const TestCase& test, const std::string& reason) {
  const std::string problem = refused_for(test, reason);
  try {
    memory_of(test.config, 1, test.backend);
    return "memory_of() takes it";
  } catch (const ConfigError&) {
    return problem;
  }
}

}  // namespace

std::vector<Cell> all_cells() {
  std::vector<Cell> cells;
  for (const Dtype dispatch_dtype : all_of<Dtype>(kDtypeNames))
    for (const Dtype combine_dtype : all_of<Dtype>(kDtypeNames))
      for (const Layout layout : all_of<Layout>(kLayoutNames))
        for (const Path path : all_of<Path>(kPathNames))
          for (const CombineQuant combine_quant : all_of<CombineQuant>(kCombineQuantNames))
            cells.push_back({dispatch_dtype, combine_dtype, layout, path, combine_quant});
  return cells;
}

std::string text_of(const Cell& cell) {
  std::string text;
  for (const std::string_view name : {name_of(cell.dispatch_dtype), name_of(cell.combine_dtype), name_of(cell.layout),
                                      name_of(cell.path), name_of(cell.combine_quant)}) {
    text += std::string(name);
    text.append(name.size() < 16 ? 16 - name.size() : 1, ' ');
  }
  return text;
}

std::string refusal_of(const Cell& cell) {
  const bool half = cell.combine_dtype == Dtype::bf16 || cell.combine_dtype == Dtype::f16;
  if (cell.combine_quant != CombineQuant::none && !half) return "carries bf16 and f16 rows only";
  if (cell.combine_quant != CombineQuant::none && cell.path != Path::staged)
    return "with " + std::string(name_of(cell.path));
  if (cell.path == Path::fused && cell.layout != Layout::token_major) return "fused with layout";
  return {};
}

bool is_left_out(const Cell& cell) {
  return refusal_of(cell).empty() && is_left_out(cell.combine_dtype, cell.combine_quant);
}

int num_cells_that_run() {
  int num = 0;  // of one dispatch dtype; all layouts staged and zero-copy, one fused; other wires staged only
  for (const Instance& instance : kBuiltInstances) num += instance.combine_quant == CombineQuant::none ? 7 : 3;
  return static_cast<int>(std::size(kDtypeNames)) * num;
}

TestCase case_of(const Cell& cell, int variant, int num_ranks) {
  constexpr int kScales[] = {0, 1, 7, 224};
  TestCase test = small_case(num_ranks);
  Config& c = test.config;
  c.hidden = 160;                                  // the second block of 128 is short
  c.num_experts = std::max(7, 3 * num_ranks - 2);  // 3 on a rank, 1 on the last; 4 and 3 on two ranks
  c.top_k = 3 + variant % 3;
  c.max_tokens_per_rank = 6;
  c.dispatch_dtype = cell.dispatch_dtype;
  c.combine_dtype = cell.combine_dtype;
  c.layout = cell.layout;
  c.combine_quant = cell.combine_quant;
  set_path(c, cell.path);
  c.scale_bytes = kScales[variant % 4];
  if (cell.layout == Layout::contiguous) {
    c.alignment = variant % 2 ? 8 : 1;
    c.zero_padding = variant % 3 == 0;
  }
  test.recipe.weights = variant < 4;
  test.recipe.routing = oracle::kRoutings[variant % std::size(oracle::kRoutings)];
  test.recipe.fill = oracle::kFills[variant % std::size(oracle::kFills)];
  test.recipe.weight_fill = variant % 2 ? oracle::Fill::edges : oracle::Fill::moderate;
  test.recipe.seed = 1000 + static_cast<std::uint64_t>(variant);
  test.recipe.tokens.clear();
  for (int rank = 0; rank < num_ranks; ++rank)
    test.recipe.tokens.push_back(std::array{6, variant % 2 * 5, 3}[rank % 3]);
  test.topk_ids_are_int64 = variant % 2 != 0 || test.recipe.routing == oracle::Routing::bad64;
  test.device_tokens = variant % 4 == 2;
  c.combine_topk_weights = test.combine_topk_weights = variant % 2 == 0;
  test.caller_weights = test.combine_topk_weights && variant % 4 == 0 && cell.path != Path::fused;
  return test;
}

Summary walk(const std::vector<Cell>& cells,
             const std::function<std::vector<TestCase>(const Cell&, int idx)>& variants) {
  Summary sum;
  for (const Cell& cell : cells) {
    const std::vector<TestCase> cases = variants(cell, sum.cells++);
    const std::string expected = refusal_of(cell);
    std::string problem;
    const Support support = supports(cases.at(0).config, cases.at(0).num_ranks);
    if (!support) {
      ++sum.refused;
      if (expected.empty() || support.reason.find(expected) == std::string::npos) problem = "must not be refused so";
      if (problem.empty()) problem = refused_alike(cases[0], support.reason);
    } else if (is_left_out(cell)) {
      ++sum.left_out;
      problem = refused_for(cases[0], kLeftOut);
    } else {
      ++sum.run;
      if (!expected.empty()) problem = "must be refused: " + expected;
      for (const TestCase& test : cases) {
        if (!problem.empty()) break;
        problem = run_case(test);
        ++sum.cases;
      }
    }
    const std::string did = !support ? "refused: " + support.reason : is_left_out(cell) ? "not in this build" : "run";
    std::printf("%s%s%s\n", text_of(cell).c_str(), did.c_str(), problem.empty() ? "" : "  FAILED");
    if (!problem.empty()) sum.failures += text_of(cell) + did + "\n  " + problem + "\n";
  }
  std::printf("%d cells: %d run (%d cases), %d refused with a reason, %d not in this build\n", sum.cells, sum.run,
              sum.cases, sum.refused, sum.left_out);
  return sum;
}

}  // namespace crossdock::testing
