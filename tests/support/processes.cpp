// SPDX-License-Identifier: Apache-2.0
#include "support/processes.hpp"

#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <string_view>
#include <thread>

#include "support/machine.hpp"

namespace crossdock::testing {
namespace {

struct Child {
  pid_t pid;
  int pipe;
};

Child start(int rank, const std::function<std::string(int)>& body) {
  int ends[2];
  if (::pipe(ends) != 0) throw std::runtime_error("pipe");
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("fork");
  if (pid > 0) {
    ::close(ends[1]);
    return {pid, ends[0]};
  }
  ::close(ends[0]);
  std::string text;
  try {
    text = body(rank);
  } catch (const std::exception& error) {
    text = std::string("exception: ") + error.what();
  }
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = ::write(ends[1], text.data() + at, text.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  ::_exit(0);
}

/// Reads until the process closes its end or time is up; then it is killed.
ProcessReport finish(const Child& child, std::chrono::steady_clock::time_point until) {
  ProcessReport report;
  report.pid = child.pid;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd fd{child.pipe, POLLIN, 0};
    if (left.count() <= 0 || ::poll(&fd, 1, static_cast<int>(left.count())) == 0) {
      ::kill(child.pid, SIGKILL);
      report.text += "(outlived the test's patience)";
      break;
    }
    char bytes[4096];
    const ssize_t n = ::read(child.pipe, bytes, sizeof bytes);
    if (n <= 0) break;
    report.text.append(bytes, static_cast<std::size_t>(n));
  }
  ::close(child.pipe);
  ::waitpid(child.pid, &report.exit_status, 0);
  return report;
}

}  // namespace

std::vector<ProcessReport> run_processes(int num_ranks, const std::function<std::string(int)>& body,
                                         const std::function<void(const std::vector<pid_t>&)>& meanwhile,
                                         int patience_s) {
  std::vector<Child> children;
  std::vector<pid_t> pids;
  for (int r = 0; r < num_ranks; ++r) {
    children.push_back(start(r, body));
    pids.push_back(children.back().pid);
  }
  if (meanwhile) meanwhile(pids);
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(patience_s);
  std::vector<ProcessReport> reports;
  for (const Child& child : children) reports.push_back(finish(child, until));
  return reports;
}

SharedCount::SharedCount() {
  void* page = ::mmap(nullptr, sizeof *count_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) throw std::runtime_error("mmap");
  count_ = new (page) std::atomic<int>(0);
}
SharedCount::~SharedCount() { ::munmap(count_, sizeof *count_); }
void SharedCount::await(int count, std::chrono::milliseconds patience) const {
  const auto until = std::chrono::steady_clock::now() + patience;
  while (*count_ < count) {
    if (std::chrono::steady_clock::now() > until)
      throw std::runtime_error(std::to_string(*count_) + " of " + std::to_string(count) + " came");
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
}

int ranks_with_devices(int most) {
  if (const char* wanted = std::getenv("CROSSDOCK_TEST_RANKS")) return std::clamp(std::atoi(wanted), 2, most);
  const char* variable = machine_of(backend_of_tests()).visible;
  const char* visible = variable ? std::getenv(variable) : nullptr;
  if (!visible) return 3;
  const std::string_view list = visible;
  return std::clamp(1 + static_cast<int>(std::count(list.begin(), list.end(), ',')), 2, most);
}

std::string unique_name() {
  std::random_device random;
  return "test-" + std::to_string(random()) + "-" + std::to_string(random());
}

RuntimeDir::RuntimeDir() : path_((std::filesystem::temp_directory_path() / unique_name()).string()) {
  std::filesystem::create_directory(path_);
  std::filesystem::permissions(path_, std::filesystem::perms::owner_all);
  ::setenv("CROSSDOCK_RUNTIME_DIR", path_.c_str(), 1);
}

RuntimeDir::~RuntimeDir() {
  ::unsetenv("CROSSDOCK_RUNTIME_DIR");
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace crossdock::testing
