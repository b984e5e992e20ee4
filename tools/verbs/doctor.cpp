// SPDX-License-Identifier: Apache-2.0
// `crossdock doctor`: what there is on this machine, what the environment says, and what stands in the way.
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "command/flags.hpp"
#include "command/verbs.hpp"
#include "crossdock/crossdock.hpp"
#include "jobs/check_run.hpp"
#include "machine/pages.hpp"
#include "ranks/ranks.hpp"

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

constexpr const char* kTuningFile = "CROSSDOCK_TUNING_FILE";

std::string first_line(const char* path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

std::vector<BackendInfo> found_backends() {
  std::vector<BackendInfo> found(std::size(kBackendNames));
  const int most = static_cast<int>(found.size());
  found.resize(static_cast<std::size_t>(std::min(list_backends(found.data(), most), most)));
  return found;
}

ordered_json backends() {
  ordered_json all = ordered_json::array();
  for (const BackendInfo& backend : found_backends())
    all.push_back({{"name", name_of(backend.kind)},
                   {"devices", backend.num_devices},
                   {"note", backend.note ? backend.note : ""}});
  return all;
}

ordered_json machine() {
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  return {{"processors", std::thread::hardware_concurrency()},
          {"page_bytes", sysconf(_SC_PAGESIZE)},
          {"memory_bytes", memory_of_machine("MemTotal:")},
          {"available_bytes", memory_of_machine("MemAvailable:")},
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
    const std::string_view text = *entry, name = text.substr(0, text.find('='));
    const auto is_it = [&](const Variable& v) { return v.name == name; };
    if (name.starts_with("CROSSDOCK_") && std::none_of(std::begin(kVariables), std::end(kVariables), is_it))
      problems.push_back(fmt::format("environment: {} is set, and no part of Crossdock reads it", name));
  }
}

/// What is no problem by itself, but decides which programs come to an end.
ordered_json notes() {
  ordered_json all = ordered_json::array();
  const char* queues = std::getenv("CUDA_DEVICE_MAX_CONNECTIONS");
  if (queues && std::string_view(queues) == "1")
    all.push_back(
        "CUDA_DEVICE_MAX_CONNECTIONS = 1: all streams of a GPU share one queue. Issue calls and collectives on several "
        "streams in the same order on every rank, see docs/howto/overlap.md");
  return all;
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
  if (!verdict.right) throw Failed("{}", verdict.why);
}

/// Tried in this order: processes are forked before anybody speaks to a driver. "" where all is well.
ordered_json trials() {
  ordered_json all;
  all["two processes exchange tokens"] = failure_of([] { exchange_tiny(true); });
  all["two threads exchange tokens"] = failure_of([] { exchange_tiny(false); });
  all["a group of one thread on the default backend"] = failure_of([] { Group::join(ThreadTeam(1), 0); });
  return all;
}

/// How processes would map the memory of each device of the default backend: as groups of one say.
ordered_json sharing() {
  ordered_json all = ordered_json::array();
  const std::string failure = failure_of([&] {
    const BackendKind used = Group::join(ThreadTeam(1), 0).backend();
    for (const BackendInfo& backend : found_backends())
      for (int device = 0; backend.kind == used && device < backend.num_devices; ++device) {
        GroupOptions options;
        options.device = device;
        all.push_back({{"device", device}, {"manner", Group::join(ThreadTeam(1), 0, options).sharing()}});
      }
  });
  if (!failure.empty()) all.push_back({{"device", all.size()}, {"manner", "unknown: " + failure}});
  return all;
}

/// Of a group of as many ranks as the tuning file says, which reads it.
std::string tuning_failure(const std::string& file) {
  ::setenv(kTuningFile, file.c_str(), 1);
  const std::string title = first_line(file.c_str());
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

std::string text_of(const ordered_json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

void print(const ordered_json& report) {
  const auto bytes = [](const ordered_json& value) { return bytes_text(value.get<double>()); };
  fmt::print("crossdock {}\n\nBackends\n", text_of(report["version"]));
  for (const ordered_json& b : report["backends"])
    fmt::print("  {:<10} {} device(s)  {}\n", text_of(b["name"]), text_of(b["devices"]), text_of(b["note"]));
  fmt::print("\nMemory between processes\n");
  for (const ordered_json& d : report["sharing"])
    fmt::print("  device {:<3} {}\n", text_of(d["device"]), text_of(d["manner"]));
  const ordered_json& m = report["machine"];
  fmt::print("\nMachine\n  processors {}, pages of {} bytes, huge pages: {}\n", text_of(m["processors"]),
             text_of(m["page_bytes"]), text_of(m["huge_pages"]));
  fmt::print("  memory {}, of which {} available; {} open files a process\n\nEnvironment\n", bytes(m["memory_bytes"]),
             bytes(m["available_bytes"]), text_of(m["open_files"]));
  for (const ordered_json& v : report["environment"])
    fmt::print("  {:<22} {:<30} {}\n", text_of(v["name"]),
               v["value"].is_null() ? fmt::format("({})", text_of(v["default"])) : text_of(v["value"]),
               text_of(v["meaning"]));
  fmt::print("\nTried\n");
  for (const auto& [what, why] : report["trials"].items())
    fmt::print("  {:<46} {}\n", what, text_of(why).empty() ? "ok" : "FAILED, see below");
  for (const ordered_json& note : report["notes"]) fmt::print("\nNote\n  {}\n", text_of(note));
  fmt::print("\nProblems\n");
  for (const ordered_json& problem : report["problems"]) fmt::print("  {}\n", text_of(problem));
  if (report["problems"].empty()) fmt::print("  none\n");
}

void examine(bool as_json) {
  ordered_json report;
  report["version"] = version();
  const ordered_json found = environment();
  const char* const set = std::getenv(kTuningFile);
  const std::string tuning = set ? set : "";
  ::setenv(kTuningFile, "none", 1);     // a file is for groups of its own size
  const ordered_json tried = trials();  // before all that speaks to a driver
  report["backends"] = backends();
  report["sharing"] = sharing();
  report["machine"] = machine();
  report["environment"] = found;
  report["trials"] = tried;
  report["notes"] = notes();
  ordered_json problems = ordered_json::array();
  find_unknown_variables(problems);
  for (const auto& [what, why] : tried.items())
    if (why != "") problems.push_back(what + ": " + why.get<std::string>());
  if (!tuning.empty() && tuning != "none")
    if (const std::string why = tuning_failure(tuning); !why.empty())
      problems.push_back(fmt::format("{}: {}", kTuningFile, why));
  report["problems"] = problems;
  as_json ? fmt::print("{}\n", report.dump(2)) : print(report);
  if (!problems.empty()) throw Failed("{} problem(s) found, see above", problems.size());
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
