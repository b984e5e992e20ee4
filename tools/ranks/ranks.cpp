// SPDX-License-Identifier: Apache-2.0
#include "ranks/ranks.hpp"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <iostream>
#include <memory>
#include <thread>

namespace crossdock::tools {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kTick{20};
constexpr int kReported = 3;  // exit code of a process whose body said that it failed

/// Why a process ended as it did, or nothing.
std::string message_of(int rank, pid_t process, int status) {
  const std::string who = "rank " + std::to_string(rank) + " (process " + std::to_string(process) + ")";
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return who + " was killed by signal " + std::to_string(signal) + " (" + strsignal(signal) + ")";
  }
  const int code = WEXITSTATUS(status);
  if (code == 0) return {};
  return code == kReported ? "failed" : who + " ended with exit code " + std::to_string(code);
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

/// Processes that still run, by rank; 0: ended.
struct Children {
  std::vector<pid_t> processes;

  bool any() const {
    for (const pid_t process : processes)
      if (process) return true;
    return false;
  }
  void kill_all() const {
    for (const pid_t process : processes)
      if (process) kill(process, SIGKILL);
  }
};

}  // namespace

std::vector<Ending> run_as_threads(int num_ranks, const std::function<bool(int)>& body, const Watch& watch) {
  std::vector<Ending> endings(static_cast<std::size_t>(num_ranks));
  std::atomic<int> running{num_ranks};
  std::atomic<bool> failed{false};
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < num_ranks; ++rank) {
      endings[rank].rank = rank;
      threads.emplace_back([&, rank] {
        try {
          if (!body(rank)) endings[rank].why = "failed";
        } catch (const std::exception& error) {
          endings[rank].why = error.what();
        }
        if (!endings[rank].why.empty()) failed = true;
        --running;
      });
    }
    for (bool told = false; running > 0; std::this_thread::sleep_for(running > 0 ? kTick / 4 : kTick * 0)) {
      if (failed && !told) watch.on_failure(), told = true;
      watch.tick();
    }
    if (failed) watch.on_failure();
  }
  return endings;
}

std::vector<Ending> run_as_processes(int num_ranks, const std::function<bool(int)>& body, const Watch& watch) {
  std::vector<Ending> endings(static_cast<std::size_t>(num_ranks));
  Children children;
  std::cout.flush();
  std::cerr.flush();
  const pid_t parent = getpid();
  for (int rank = 0; rank < num_ranks; ++rank) {
    const pid_t process = fork();
    if (process == 0) run_child(parent, rank, body);
    if (process < 0) {
      const std::string why = std::strerror(errno);
      children.kill_all();
      throw std::runtime_error("cannot start the process of rank " + std::to_string(rank) + ": " + why);
    }
    children.processes.push_back(process);
    endings[rank].rank = rank;
  }
  Clock::time_point give_up = Clock::time_point::max();
  while (children.any()) {
    for (int rank = 0; rank < num_ranks; ++rank) {
      pid_t& process = children.processes[rank];
      int status = 0;
      if (!process || waitpid(process, &status, WNOHANG) != process) continue;
      endings[rank].why = message_of(rank, process, status);
      process = 0;
      if (endings[rank].why.empty() || give_up != Clock::time_point::max()) continue;
      give_up = Clock::now() + watch.patience;
      watch.on_failure();
    }
    if (Clock::now() > give_up) children.kill_all();
    watch.tick();
    std::this_thread::sleep_for(children.any() ? kTick / 4 : kTick * 0);
  }
  return endings;
}

}  // namespace crossdock::tools
