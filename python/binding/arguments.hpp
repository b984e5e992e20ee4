// SPDX-License-Identifier: Apache-2.0
// Converts plain Python arguments to C++. One of a wrong type is a UsageError with the value and the rule, and not
// nanobind's TypeError.
#pragma once

#include <nanobind/nanobind.h>

#include <string>

#include "crossdock/config.hpp"
#include "crossdock/error.hpp"

namespace crossdock::python {

/// A Python integer as T; for bool only True and False. `what`: call and argument, for the error text.
template <class T>
T integer_of(const std::string& what, nanobind::handle value) {
  T result;
  if constexpr (std::is_same_v<T, bool>) {
    if (value.is(Py_True) || value.is(Py_False)) return value.is(Py_True);
  } else if (PyIndex_Check(value.ptr()) &&
             nanobind::try_cast<T>(nanobind::steal(PyNumber_Index(value.ptr())), result)) {
    return result;
  }
  throw UsageError(what + " = " + nanobind::repr(value).c_str() + "; must be " +
                   (std::is_same_v<T, bool> ? "True or False"
                    : sizeof(T) == 4        ? "an integer of 32 bits"
                                            : "an integer of 64 bits"));
}

/// Seconds as a number.
inline double seconds_of(const std::string& what, nanobind::handle value) {
  double result;
  if (PyNumber_Check(value.ptr()) && nanobind::try_cast(value, result)) return result;
  throw UsageError(what + " = " + nanobind::repr(value).c_str() + "; must be a number of seconds");
}

inline std::string text_of(const std::string& what, nanobind::handle value) {
  if (nanobind::isinstance<nanobind::str>(value)) return nanobind::str(value).c_str();
  throw UsageError(what + " = " + nanobind::repr(value).c_str() + "; must be a name");
}

inline const Config& config_of(const char* call, nanobind::handle value) {
  if (nanobind::isinstance<Config>(value)) return nanobind::cast<const Config&>(value);
  throw UsageError(std::string(call) + ": config is a " + nanobind::type_name(value.type()).c_str() +
                   "; pass a crossdock.Config");
}

}  // namespace crossdock::python
