// SPDX-License-Identifier: Apache-2.0
// Errors for Python names from before version 0.1, which include/crossdock/retired_names.h lists.
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
/// Throws AttributeError: `owner`, a class or module, has no attribute `name`. The text has the new name if it was
/// renamed.
[[noreturn]] void refuse_attribute(const char* owner, const std::string& name);

void bind_retired(nanobind::module_& module);

}  // namespace crossdock::python
