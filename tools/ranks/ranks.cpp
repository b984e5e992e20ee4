// SPDX-License-Identifier: Apache-2.0
#include "ranks/ranks.hpp"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <random>
#include <thread>

namespace crossdock::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{5};
constexpr int kReported = 3;  // exit code of a process whose body said that it failed

/// Why a process ended as it did, or nothing.
std::string message_of(int rank, pid_t process, int status) {
  const std::string who = fmt::format("rank {} (process {})", rank, process);
  if (WIFSIGNALED(status))
    return fmt::format("{} was killed by signal {} ({})", who, WTERMSIG(status), strsignal(WTERMSIG(status)));
  const int code = WEXITSTATUS(status);
  return code == 0 ? "" : code == kReported ? "failed" : fmt::format("{} ended with exit code {}", who, code);
}

[[noreturn]] void run_child(pid_t parent, int rank, const std::function<bool(int)>& body) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // no rank outlives the command
  if (getppid() != parent) _exit(1);
  int code = 1;
  try {
    code = body(rank) ? 0 : kReported;
  } catch (const std::exception& error) {
    std::cerr << "crossdock: rank " << rank << ": " << error.what() << std::endl;
  }
  _exit(code);  // the streams of the parent are flushed by the parent alone
}

void kill_all(const std::vector<pid_t>& running) {
  for (const pid_t process : running)
    if (process) kill(process, SIGKILL);
}

}  // namespace

Meeting::Meeting(int num_ranks, bool processes) : num_ranks_(num_ranks) {
  std::random_device random;
  if (processes)
    name_ = fmt::format("crossdock-{:08x}{:08x}{:08x}", random(), random(), random());
  else
    team_.emplace(num_ranks);
}

std::vector<Ending> run_as_threads(int num_ranks, const std::function<bool(int)>& body, const Watch& watch) {
  std::vector<Ending> endings(static_cast<std::size_t>(num_ranks));
  RankThreads(num_ranks).run([&](int rank) {
    Ending& ending = endings[rank] = {rank, ""};
    try {
      if (!body(rank)) ending.why = "failed";
    } catch (const std::exception& error) {
      ending.why = error.what();
    }
    if (!ending.why.empty()) watch.on_failure();
  });
  return endings;
}

std::vector<Ending> run_as_processes(int num_ranks, const std::function<bool(int)>& body, const Watch& watch) {
  std::vector<Ending> endings(static_cast<std::size_t>(num_ranks));
  std::vector<pid_t> running;  // by rank; 0: ended
  std::cout.flush();
  std::cerr.flush();
  const pid_t parent = getpid();
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t process = fork();
    if (process == 0) run_child(parent, rank, body);
    if (process < 0) {
      const std::string why = std::strerror(errno);
      kill_all(running);
      throw std::runtime_error(fmt::format("cannot start the process of rank {}: {}", rank, why));
    }
    running.push_back(process);
    endings[rank].rank = rank;
  }
  Clock::time_point give_up = Clock::time_point::max();
  while (std::any_of(running.begin(), running.end(), [](pid_t process) { return process != 0; })) {
    std::this_thread::sleep_for(kTick);
    for (int rank = 0; rank < num_ranks; ++rank) {
      int status = 0;
      if (!running[rank] || waitpid(running[rank], &status, WNOHANG) != running[rank]) continue;
      endings[rank].why = message_of(rank, running[rank], status);
      running[rank] = 0;
      if (endings[rank].why.empty()) continue;
      if (give_up == Clock::time_point::max()) give_up = Clock::now() + watch.patience;
      watch.on_failure();
    }
    if (Clock::now() > give_up) kill_all(running);
  }
  return endings;
}

}  // namespace crossdock::tools
