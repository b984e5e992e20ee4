// SPDX-License-Identifier: Apache-2.0
#include "ranks/progress.hpp"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace crossdock::tools {
namespace {

#define XD_TEXT(name, text) text,
constexpr const char* kStepTexts[] = {XD_RUN_STEPS(XD_TEXT)};
#undef XD_TEXT
constexpr std::chrono::seconds kQuietFor{1};
constexpr std::chrono::milliseconds kRedraw{200};

}  // namespace

void RankProgress::begin(Step step, std::int64_t total) {
  done_.store(0, std::memory_order_relaxed);
  total_.store(total, std::memory_order_relaxed);
  step_.store(static_cast<int>(step), std::memory_order_relaxed);
}

double RankProgress::share() const {
  const auto total = static_cast<double>(total_.load(std::memory_order_relaxed));
  return total > 0 ? std::min(1.0, static_cast<double>(done_.load(std::memory_order_relaxed)) / total) : 0.0;
}

ProgressLine::ProgressLine(Show show, const SharedArray<RankProgress>& ranks)
    : ranks_(ranks), terminal_(isatty(2) == 1) {
  shown_ = show == Show::always || (show == Show::on_terminal && terminal_);
  next_ = began_ + kQuietFor;
}

ProgressLine::~ProgressLine() {
  if (terminal_ && !last_.empty()) std::fprintf(stderr, "\r\033[K");
}

void ProgressLine::draw() {
  const Clock::time_point now = Clock::now();
  if (!shown_ || now < next_) return;
  next_ = now + kRedraw;
  const RankProgress* slowest = &ranks_[0];
  for (const RankProgress& rank : ranks_.all())
    if (rank.step() < slowest->step() || (rank.step() == slowest->step() && rank.share() < slowest->share()))
      slowest = &rank;
  const std::string step = kStepTexts[static_cast<int>(slowest->step())];
  const double seconds = std::chrono::duration<double>(now - began_).count();
  if (terminal_) {
    std::fprintf(stderr, "\r\033[K  %.0f s  %s %3.0f %%", seconds, step.c_str(), 100 * slowest->share());
  } else if (step != last_) {
    std::fprintf(stderr, "  %.0f s  %s\n", seconds, step.c_str());
  }
  std::fflush(stderr);
  last_ = step;
}

}  // namespace crossdock::tools
