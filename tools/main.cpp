// SPDX-License-Identifier: Apache-2.0
// The command `crossdock`. Exit codes: 0 all is well, 1 the job failed or its check did, 2 bad input.
#include <algorithm>
#include <cstdio>
#include <exception>

#include "command/verbs.hpp"
#include "crossdock/crossdock.hpp"

namespace {

constexpr int kFailed = 1, kBadInput = 2;

int complain(const std::string& what, int exit_code) {
  std::fflush(stdout);
  fmt::print(stderr, "crossdock: {}\n", what);
  return exit_code;
}

/// Help and version are printed as CLI11 does; anything else is one line.
int explain(const CLI::App& app, const CLI::ParseError& error) {
  if (error.get_exit_code() == 0) return app.exit(error);
  const auto used = app.get_subcommands();
  const std::string verb = used.empty() ? "" : " " + used.front()->get_name();
  return complain(fmt::format("{} (see `crossdock{} --help`)", error.what(), verb), kBadInput);
}

void require_verb(const CLI::App& app, const std::string& name) {
  std::vector<std::string> all;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    all.push_back(verb->get_name());
  if (std::find(all.begin(), all.end(), name) == all.end())
    throw crossdock::tools::BadInput("there is no verb `{}`; there are {}", name, fmt::join(all, ", "));
}

int run(int argc, char** argv) {
  CLI::App app{"Dispatch and combine of mixture-of-experts tokens between the GPUs, or the CPU ranks, of one host"};
  app.set_version_flag("--version", crossdock::version());
  app.set_help_all_flag("--help-all", "Help of all verbs");
  app.require_subcommand(1);
  for (const auto& [place, add] : crossdock::tools::all_verbs()) add(app);
  if (argc > 1 && *argv[1] != '-') require_verb(app, argv[1]);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return explain(app, error);
  }
}

}  // namespace

int main(int argc, char** argv) {
  using crossdock::StatusCode;
  try {
    return run(argc, argv);
  } catch (const crossdock::tools::BadInput& error) {
    return complain(error.what(), kBadInput);
  } catch (const crossdock::Error& error) {
    const bool asked_wrong = error.code() == StatusCode::usage || error.code() == StatusCode::config;
    return complain(error.what(), asked_wrong ? kBadInput : kFailed);
  } catch (const std::exception& error) {
    return complain(error.what(), kFailed);
  }
}
