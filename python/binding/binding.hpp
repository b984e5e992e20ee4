// SPDX-License-Identifier: Apache-2.0
// The parts of the module, one function a file.
#pragma once

#include <nanobind/nanobind.h>

namespace crossdock::python {

void bind_config(nanobind::module_& module);
void bind_stream(nanobind::module_& module);
void bind_group(nanobind::module_& module);
void bind_exchange(nanobind::module_& module);

/// A class of crossdock._results: the types of the values that calls return.
nanobind::object result_class(const char* name);

/// The name in DTYPES of a dtype of torch, numpy or ml_dtypes. Returns a str unchanged, and an unknown dtype by its own
/// name.
nanobind::object dtype_name_of(nanobind::handle dtype);

/// Number of forks that led to this process, counted from the first call.
unsigned forks_so_far();
/// StateError if the process was forked after forks_so_far() returned `forks_then`.
void check_not_forked(unsigned forks_then, const char* call);

}  // namespace crossdock::python
