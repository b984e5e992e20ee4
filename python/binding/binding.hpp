// SPDX-License-Identifier: Apache-2.0
// The parts of the module, one function a file.
#pragma once

#include <nanobind/nanobind.h>

namespace crossdock::python {

void bind_config(nanobind::module_& module);
void bind_stream(nanobind::module_& module);
void bind_group(nanobind::module_& module);
void bind_exchange(nanobind::module_& module);

/// A class of crossdock._results, in which answers are given.
nanobind::object result_class(const char* name);

/// A name of DTYPES from a dtype of torch, numpy or ml_dtypes; a str as it is.
nanobind::object dtype_name_of(nanobind::handle dtype);

/// Throws StateError in a process that was forked after `forks_then` was read.
unsigned forks_so_far();
void check_not_forked(unsigned forks_then, const char* call);

}  // namespace crossdock::python
