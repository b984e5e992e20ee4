// SPDX-License-Identifier: Apache-2.0
// `crossdock report`: python -m crossdock.report of the Python package takes over, with the same arguments.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "command/failures.hpp"
#include "command/verbs.hpp"

namespace crossdock::tools {
namespace {

std::vector<char*> argv_of(std::vector<std::string>& words) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  return argv;
}

/// Whether `python` runs and imports the module. What it prints is dropped.
bool can_import(const std::string& python) {
  std::vector<std::string> words{python, "-c",
                                 "import os; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); import crossdock.report"};
  pid_t child = 0;
  int status = 0;
  return posix_spawnp(&child, python.c_str(), nullptr, nullptr, argv_of(words).data(), environ) == 0 &&
         waitpid(child, &status, 0) == child && status == 0;
}

void report(const std::vector<std::string>& arguments) {
  const char* const named = std::getenv("PYTHON");
  const std::string python = named && *named ? named : "python3";
  if (can_import(python)) {
    std::vector<std::string> words{python, "-m", "crossdock.report"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    execvp(python.c_str(), argv_of(words).data());
  }
  throw Failed(
      "report: needs the Python package with its extra: pip install 'crossdock[report]', or name a Python that has it "
      "by PYTHON (`{} -c 'import crossdock.report'` fails)",
      python);
}

void add_report(CLI::App& app) {
  CLI::App* verb =
      app.add_subcommand("report", "Lines of a bench as a page of plots and tables, or as pictures (by Python)");
  verb->set_help_flag();   // the module has a help of its own
  verb->prefix_command();  // all that follows is for the module
  verb->callback([verb] { report(verb->remaining()); });
}

const Verb kVerb{35, add_report};

}  // namespace
}  // namespace crossdock::tools
