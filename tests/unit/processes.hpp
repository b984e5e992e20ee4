// SPDX-License-Identifier: Apache-2.0
// Ranks as processes, for tests: forked children whose verdict comes back as text.
#pragma once

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <exception>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace crossdock::testing {

/// How a child ended: what it returned or threw, or "killed".
using Verdicts = std::vector<std::string>;

class Processes {
 public:
  /// Forks `num` children at once; child r runs body(r) and returns a text. An exception gives "threw: ...".
  Processes(int num, const std::function<std::string(int)>& body) {
    for (int r = 0; r < num; ++r) {
      int ends[2];
      if (::pipe(ends) != 0) ::abort();
      const pid_t pid = ::fork();
      if (pid == 0) {
        ::close(ends[0]);
        run_child(ends[1], body, r);
      }
      ::close(ends[1]);
      children_.push_back({pid, ends[0]});
    }
  }
  ~Processes() { verdicts(); }

  void kill(int r) { ::kill(children_[r].pid, SIGKILL); }
  pid_t pid(int r) const { return children_[r].pid; }

  /// Waits for all.
  Verdicts verdicts() {
    Verdicts all;
    for (Child& child : children_) {
      std::string text;
      char part[512];
      for (ssize_t n; (n = ::read(child.pipe, part, sizeof(part))) > 0;) text.append(part, static_cast<std::size_t>(n));
      ::close(child.pipe);
      int status = 0;
      ::waitpid(child.pid, &status, 0);
      all.push_back(WIFSIGNALED(status) ? "killed" : text);
    }
    children_.clear();
    return all;
  }

 private:
  struct Child {
    pid_t pid;
    int pipe;
  };
  [[noreturn]] static void run_child(int pipe, const std::function<std::string(int)>& body, int r) {
    std::string text;
    try {
      text = body(r);
    } catch (const std::exception& e) {
      text = std::string("threw: ") + e.what();
    }
    const ssize_t written = ::write(pipe, text.data(), text.size());
    ::_exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  std::vector<Child> children_;
};

/// Open file descriptors of this process.
inline int num_open_fds() {
  int num = 0;
  DIR* folder = ::opendir("/proc/self/fd");
  while (::readdir(folder) != nullptr) ++num;
  ::closedir(folder);
  return num;
}

/// A private folder that is gone at the end of the test. `name()` is a rendezvous name nobody else uses.
class ScratchFolder {
 public:
  ScratchFolder() {
    char path[] = "/tmp/crossdock-test-XXXXXX";
    if (::mkdtemp(path) == nullptr) ::abort();
    path_ = path;
  }
  ~ScratchFolder() {
    for (const std::string& file : files_under("")) ::unlink((path_ + "/" + file).c_str());
    for (const std::string& folder : folders_) ::rmdir((path_ + "/" + folder).c_str());
    ::rmdir(path_.c_str());
  }
  const std::string& path() const { return path_; }

  /// Everything below, but folders, as relative paths.
  std::vector<std::string> files_under(const std::string& below) {
    std::vector<std::string> files;
    DIR* folder = ::opendir((path_ + "/" + below).c_str());
    if (folder == nullptr) return files;
    while (const dirent* entry = ::readdir(folder)) {
      const std::string name = entry->d_name, relative = below.empty() ? name : below + "/" + name;
      if (name == "." || name == "..") continue;
      if (entry->d_type == DT_DIR) {
        const auto inner = files_under(relative);
        files.insert(files.end(), inner.begin(), inner.end());
        folders_.push_back(relative);
      } else {
        files.push_back(relative);
      }
    }
    ::closedir(folder);
    return files;
  }

 private:
  std::string path_;
  std::vector<std::string> folders_;
};

inline void sleep_ms(int ms) { std::this_thread::sleep_for(std::chrono::milliseconds{ms}); }

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace crossdock::testing
