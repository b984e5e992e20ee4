// SPDX-License-Identifier: Apache-2.0
#include "layer/router.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "command/failures.hpp"

namespace crossdock::tools {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();

/// The `count` best of `scores`, best first; equal scores go by the lower index.
std::vector<int> best(const std::vector<float>& scores, int count) {
  std::vector<int> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::partial_sort(order.begin(), order.begin() + count, order.end(),
                    [&](int a, int b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  order.resize(static_cast<std::size_t>(count));
  return order;
}

/// Sets the scores of all groups but the best to "never". A group counts as its two best experts.
void keep_best_groups(const RouterShape& shape, std::vector<float>& scores) {
  const std::size_t size = scores.size() / static_cast<std::size_t>(shape.num_groups);
  std::vector<float> of_group;
  for (std::size_t first = 0; first < scores.size(); first += size) {
    float largest = kNever, second = kNever;
    for (std::size_t e = first; e < first + size; ++e) {
      second = std::max(second, std::min(largest, scores[e]));
      largest = std::max(largest, scores[e]);
    }
    of_group.push_back(size > 1 ? largest + second : largest);
  }
  std::vector<bool> kept(of_group.size(), false);
  for (const int group : best(of_group, shape.top_groups)) kept[static_cast<std::size_t>(group)] = true;
  for (std::size_t e = 0; e < scores.size(); ++e)
    if (!kept[e / size]) scores[e] = kNever;
}

/// Weights = scores of the chosen / their sum * factor.
void normalise(const std::vector<float>& scores, const std::vector<int>& chosen, float factor, std::int32_t* ids,
               float* weights) {
  float sum = 0;
  for (const int e : chosen) sum = sum + scores[static_cast<std::size_t>(e)];
  for (std::size_t j = 0; j < chosen.size(); ++j) {
    ids[j] = chosen[j];
    weights[j] = scores[static_cast<std::size_t>(chosen[j])] / (sum + 1e-20f) * factor;
  }
}

void route_deepseek(const RouterShape& shape, const Model& model, std::vector<float> scores, std::int32_t* ids,
                    float* weights) {
  for (float& score : scores) score = 1.0f / (1.0f + std::exp(-score));
  std::vector<float> choice = scores;  // the bias balances the experts; it does not weigh their outputs
  for (std::size_t e = 0; e < choice.size(); ++e) choice[e] = choice[e] + model.bias(static_cast<int>(e));
  keep_best_groups(shape, choice);
  normalise(scores, best(choice, shape.top_k), shape.scaling_factor, ids, weights);
}

void route_mixtral(const RouterShape& shape, std::vector<float> scores, std::int32_t* ids, float* weights) {
  const float largest = *std::max_element(scores.begin(), scores.end());
  float sum = 0;
  for (float& score : scores) score = std::exp(score - largest), sum = sum + score;
  for (float& score : scores) score = score / sum;
  normalise(scores, best(scores, shape.top_k), 1.0f, ids, weights);
}

}  // namespace

RouterShape checked_router(RouterShape shape, int num_experts) {
  if (shape.top_k > num_experts) throw BadInput("--topk {}: there are only --experts {}", shape.top_k, num_experts);
  if (shape.kind != RouterKind::deepseek) return shape;
  if (!shape.num_groups)
    for (shape.num_groups = 8; num_experts % shape.num_groups; --shape.num_groups) {
    }
  if (num_experts % shape.num_groups)
    throw BadInput("--groups {} does not divide --experts {}", shape.num_groups, num_experts);
  const int size = num_experts / shape.num_groups;
  if (!shape.top_groups) shape.top_groups = std::max((shape.num_groups + 1) / 2, (shape.top_k + size - 1) / size);
  if (shape.top_groups > shape.num_groups)
    throw BadInput("--topk-groups {}: there are only --groups {}", shape.top_groups, shape.num_groups);
  if (shape.top_groups * size < shape.top_k)
    throw BadInput("--topk-groups {} of {} experts hold fewer than --topk {}", shape.top_groups, size, shape.top_k);
  return shape;
}

void route_token(const RouterShape& shape, const Model& model, const float* logits, std::int32_t* ids, float* weights) {
  std::vector<float> scores(logits, logits + model.shape().num_experts);
  if (shape.kind == RouterKind::deepseek)
    route_deepseek(shape, model, std::move(scores), ids, weights);
  else
    route_mixtral(shape, std::move(scores), ids, weights);
}

}  // namespace crossdock::tools
