// SPDX-License-Identifier: Apache-2.0
// Names of before 0.1 in Python: what an error says of them, from include/crossdock/retired_names.h.
#pragma once

#include <nanobind/nanobind.h>

#include <string>
#include <string_view>

namespace crossdock::python {

/// UsageError with the new name if `name` is an old member of Config; else returns.
void refuse_old_member(std::string_view name);
/// UsageError with the new name if `name` is an old value of combine_quant; else returns.
void refuse_old_quant(std::string_view name);
/// For keyword arguments that `call`, a method of Exchange, does not have: UsageError with the new name of one that was
/// renamed, TypeError for any other. Returns if there are none.
void refuse_arguments(const char* call, const nanobind::kwargs& unknown);
/// AttributeError for an attribute that `owner`, a class or module, does not have, with what serves now if it had it once.
[[noreturn]] void refuse_attribute(const char* owner, const std::string& name);

void bind_retired(nanobind::module_& module);

}  // namespace crossdock::python
