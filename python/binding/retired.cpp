// SPDX-License-Identifier: Apache-2.0
#include "retired.hpp"

#include <nanobind/stl/string.h>

#include "crossdock/error.hpp"
#include "crossdock/retired_names.h"

namespace crossdock::python {

namespace nb = nanobind;

namespace {

struct Renamed {
  std::string_view owner, old_name, new_name;
};

#define XD_MEMBER(old_name, new_name) {"Config", #old_name, #new_name},
constexpr Renamed kMembers[] = {XD_RETIRED_MEMBERS(XD_MEMBER)};
#undef XD_MEMBER
#define XD_QUANT(old_name, new_name) {"combine_quant", #old_name, #new_name},
constexpr Renamed kQuants[] = {XD_RETIRED_QUANTS(XD_QUANT)};
#undef XD_QUANT
#define XD_KEY(old_name, new_name) {"line", #old_name, #new_name},
constexpr Renamed kKeys[] = {XD_RETIRED_KEYS(XD_KEY)};
#undef XD_KEY
#define XD_ARGUMENT(call, old_name, new_name) {#call, #old_name, #new_name},
constexpr Renamed kArguments[] = {XD_RETIRED_ARGUMENTS(XD_ARGUMENT)};
#undef XD_ARGUMENT
#define XD_ATTRIBUTE(owner, old_name, new_name) {owner, old_name, new_name},
constexpr Renamed kAttributes[] = {XD_RETIRED_ATTRIBUTES(XD_ATTRIBUTE)};
#undef XD_ATTRIBUTE

/// The new name, or nothing where `owner` never had the old one.
template <std::size_t kCount>
std::string_view successor_of(const Renamed (&list)[kCount], std::string_view owner, std::string_view name) {
  for (const Renamed& entry : list)
    if (entry.owner == owner && entry.old_name == name) return entry.new_name;
  return {};
}

}  // namespace

void refuse_old_member(std::string_view name) {
  const std::string_view now = successor_of(kMembers, "Config", name);
  if (!now.empty())
    throw UsageError("Config: `" + std::string(name) + "` is called `" + std::string(now) + "` now; write that");
}

void refuse_old_quant(std::string_view name) {
  const std::string_view now = successor_of(kQuants, "combine_quant", name);
  if (!now.empty())
    throw UsageError("Config: combine_quant = '" + std::string(name) + "' is called '" + std::string(now) +
                     "' now; write that");
}

void refuse_arguments(const char* call, const nb::kwargs& unknown) {
  for (const auto [key, value] : unknown) {
    const std::string name = nb::cast<std::string>(key);
    const std::string_view now = successor_of(kArguments, call, name);
    if (!now.empty())
      throw UsageError(std::string(call) + ": the argument `" + name + "` is called `" + std::string(now) +
                       "` now; write that");
    throw nb::type_error(
        (std::string(call) + "() has no argument `" + name + "`; see help(crossdock.Exchange." + call + ")").c_str());
  }
}

void refuse_attribute(const char* owner, const std::string& name) {
  std::string_view now = successor_of(kAttributes, owner, name);
  if (now.empty() && std::string_view(owner) == "Config") now = successor_of(kMembers, owner, name);
  std::string text = std::string(owner) + " has no attribute `" + name + "`";
  if (!now.empty()) text = std::string(owner) + "." + name + " is " + std::string(now) + " now";
  throw nb::attribute_error(text.c_str());
}

void bind_retired(nb::module_& module) {
  nb::dict keys;  // of lines that `crossdock bench` writes, for a report
  for (const Renamed& entry : kKeys) keys[entry.old_name.data()] = entry.new_name.data();
  module.attr("_RETIRED_KEYS") = keys;
  module.def(
      "_refuse_attribute",
      [](const std::string& owner, const std::string& name) { refuse_attribute(owner.c_str(), name); },
      nb::arg("owner"), nb::arg("name"), nb::sig("def _refuse_attribute(owner: str, name: str) -> typing.NoReturn"));
}

}  // namespace crossdock::python
