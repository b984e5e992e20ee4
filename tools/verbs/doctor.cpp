// SPDX-License-Identifier: Apache-2.0
// `crossdock doctor`: what there is on this machine, what the environment says, and what stands in the way.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <thread>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "crossdock/crossdock.hpp"
#include "jobs/check_run.hpp"
#include "ranks/rank_threads.hpp"

extern char** environ;

namespace crossdock::tools {
namespace {

using nlohmann::ordered_json;

struct Variable {
  std::string_view name, standard, meaning;
};
#define XD_ROW(name, standard, meaning) {#name, standard, meaning},
constexpr Variable kVariables[] = {XD_ENVIRONMENT(XD_ROW)};
#undef XD_ROW

std::string first_line(const char* path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

/// Kibibytes of a line of /proc/meminfo, as bytes.
std::uint64_t memory_line(const std::string& wanted) {
  std::ifstream file("/proc/meminfo");
  std::string name, rest;
  for (std::uint64_t kib; file >> name >> kib; std::getline(file, rest))
    if (name == wanted) return kib << 10;
  return 0;
}

ordered_json backends() {
  BackendInfo found[8];
  const int count = list_backends(found, 8);
  ordered_json all = ordered_json::array();
  for (int i = 0; i < count && i < 8; ++i)
    all.push_back({{"name", name_of(found[i].kind)},
                   {"devices", found[i].num_devices},
                   {"note", found[i].note ? found[i].note : ""}});
  return all;
}

ordered_json machine() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  return {{"processors", std::thread::hardware_concurrency()},
          {"page_bytes", sysconf(_SC_PAGESIZE)},
          {"memory_bytes", memory_line("MemTotal:")},
          {"available_bytes", memory_line("MemAvailable:")},
          {"open_files", files.rlim_cur},
          {"huge_pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")}};
}

ordered_json environment() {
  ordered_json all = ordered_json::array();
  for (const Variable& v : kVariables) {
    const char* value = std::getenv(std::string(v.name).c_str());
    all.push_back({{"name", v.name},
                   {"value", value ? ordered_json(value) : ordered_json()},
                   {"default", v.standard},
                   {"meaning", v.meaning}});
  }
  return all;
}

/// Variables that look like ours and are not: they would be ignored in silence.
void find_unknown_variables(ordered_json& problems) {
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry, name = text.substr(0, text.find('='));
    if (name.rfind("CROSSDOCK_", 0) != 0) continue;
    bool known = false;
    for (const Variable& v : kVariables) known |= v.name == name;
    if (!known) problems.push_back("environment: " + name + " is set, and no part of Crossdock reads it");
  }
}

/// What `attempt` throws, or an empty text.
std::string failure_of(const std::function<void()>& attempt) {
  try {
    attempt();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

/// A variable as something else while this lives.
class Pretended {
 public:
  Pretended(const char* name, const char* value) : name_(name) {
    if (const char* is = std::getenv(name)) before_ = is;
    ::setenv(name, value, 1);
  }
  ~Pretended() { before_ ? ::setenv(name_, before_->c_str(), 1) : ::unsetenv(name_); }
  Pretended(const Pretended&) = delete;
  Pretended& operator=(const Pretended&) = delete;

 private:
  const char* const name_;
  std::optional<std::string> before_;
};

/// Two ranks dispatch and combine four tokens, and every bit is checked. Throws what goes wrong.
void exchange_tiny(bool processes) {
  Problem problem;
  problem.shape.num_ranks = 2, problem.shape.hidden = 64, problem.shape.num_experts = 4, problem.shape.top_k = 2;
  problem.shape.max_tokens_per_rank = 4;
  problem.second_result = true;
  CheckOptions options;
  options.processes = processes;
  options.backend = backend_of_verbs();
  options.deadline = std::chrono::seconds(10);
  const Verdict verdict = check_problem(problem, options);
  if (!verdict.right) throw Failed(verdict.why);
}

/// Tried in this order: processes are forked before anybody speaks to a driver. "" where all is well.
ordered_json trials() {
  const Pretended untuned("CROSSDOCK_TUNING_FILE", "none");  // a file is for groups of its own size
  ordered_json all;
  all["two processes exchange tokens"] = failure_of([] { exchange_tiny(true); });
  all["two threads exchange tokens"] = failure_of([] { exchange_tiny(false); });
  all["a group of one thread on the default backend"] = failure_of([] { Group::join(ThreadTeam(1), 0); });
  return all;
}

/// How processes would map the memory of each device of the default backend: as groups of one say.
ordered_json sharing() {
  const Pretended untuned("CROSSDOCK_TUNING_FILE", "none");
  ordered_json all = ordered_json::array();
  BackendInfo found[8];
  const int count = std::min(list_backends(found, 8), 8);
  const std::string failure = failure_of([&] {
    const BackendKind used = Group::join(ThreadTeam(1), 0).backend();
    for (const BackendInfo& backend : std::span(found, static_cast<std::size_t>(count)))
      for (int device = 0; backend.kind == used && device < backend.num_devices; ++device) {
        GroupOptions options;
        options.device = device;
        all.push_back({{"device", device}, {"manner", Group::join(ThreadTeam(1), 0, options).sharing()}});
      }
  });
  if (!failure.empty()) all.push_back({{"device", all.size()}, {"manner", "unknown: " + failure}});
  return all;
}

/// A group of as many ranks as the tuning file says reads it.
std::string tuning_failure() {
  const char* file = std::getenv("CROSSDOCK_TUNING_FILE");
  if (!file || !*file || std::string_view(file) == "none") return "";
  const std::string title = first_line(file);
  const std::size_t at = title.find(" ranks=");
  const int ranks = std::clamp(at == std::string::npos ? 1 : std::atoi(title.c_str() + at + 7), 1, kMaxRanks);
  return failure_of([ranks] {
    const std::shared_ptr<Machine> machine = open_machine(backend_of_verbs());
    const ThreadTeam team(ranks);
    RankThreads(ranks).run([&](int rank) {
      machine->use(rank);
      Group::join(team, rank, group_options(*machine, rank));
    });
  });
}

void print(const ordered_json& report) {
  const auto text = [](const ordered_json& value) {
    return value.is_string() ? value.get<std::string>() : value.dump();
  };
  const auto bytes = [](const ordered_json& value) { return bytes_text(value.get<double>()); };
  const ordered_json& m = report["machine"];
  std::printf("crossdock %s\n\nBackends\n", text(report["version"]).c_str());
  for (const ordered_json& b : report["backends"])
    std::printf("  %-10s %s device(s)  %s\n", text(b["name"]).c_str(), text(b["devices"]).c_str(),
                text(b["note"]).c_str());
  std::printf("\nMemory between processes\n");
  for (const ordered_json& d : report["sharing"])
    std::printf("  device %-3s %s\n", text(d["device"]).c_str(), text(d["manner"]).c_str());
  std::printf(
      "\nMachine\n  processors %s, pages of %s bytes, huge pages: %s\n  memory %s, of which %s available; %s open "
      "files a process\n",
      text(m["processors"]).c_str(), text(m["page_bytes"]).c_str(), text(m["huge_pages"]).c_str(),
      bytes(m["memory_bytes"]).c_str(), bytes(m["available_bytes"]).c_str(), text(m["open_files"]).c_str());
  std::printf("\nEnvironment\n");
  for (const ordered_json& v : report["environment"])
    std::printf("  %-22s %-30s %s\n", text(v["name"]).c_str(),
                v["value"].is_null() ? ("(" + text(v["default"]) + ")").c_str() : text(v["value"]).c_str(),
                text(v["meaning"]).c_str());
  std::printf("\nTried\n");
  for (const auto& [what, why] : report["trials"].items())
    std::printf("  %-46s %s\n", what.c_str(), text(why).empty() ? "ok" : "FAILED, see below");
  std::printf("\nProblems\n");
  for (const ordered_json& problem : report["problems"]) std::printf("  %s\n", text(problem).c_str());
  if (report["problems"].empty()) std::printf("  none\n");
}

void examine(bool as_json) {
  ordered_json report;
  report["version"] = version();
  const ordered_json tried = trials();  // first: see there
  report["backends"] = backends();
  report["sharing"] = sharing();
  report["machine"] = machine();
  report["environment"] = environment();
  report["trials"] = tried;
  ordered_json problems = ordered_json::array();
  find_unknown_variables(problems);
  for (const auto& [what, why] : tried.items())
    if (why != "") problems.push_back(what + ": " + why.get<std::string>());
  if (const std::string why = tuning_failure(); !why.empty()) problems.push_back("CROSSDOCK_TUNING_FILE: " + why);
  report["problems"] = problems;
  if (as_json)
    std::cout << report.dump(2) << "\n";
  else
    print(report);
  std::fflush(stdout);
  if (!problems.empty()) throw Failed(std::to_string(problems.size()) + " problem(s) found, see above");
}

void add_doctor(CLI::App& app) {
  CLI::App* doctor = app.add_subcommand("doctor", "What there is on this machine, and what stands in the way");
  const auto json = std::make_shared<bool>(false);
  doctor->add_flag("--json", *json, "Print JSON");
  doctor->callback([json] { examine(*json); });
}

const Verb kVerb{50, add_doctor};

}  // namespace
}  // namespace crossdock::tools
