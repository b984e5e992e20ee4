// SPDX-License-Identifier: Apache-2.0
#include "errors.hpp"

#include <nanobind/stl/string.h>

#include <cctype>
#include <iterator>

namespace crossdock::python {
namespace {

namespace nb = nanobind;

PyObject* base_class = nullptr;
PyObject* classes[std::size(kStatusNames)] = {};

#define XD_MEANING(name, NAME, meaning) meaning,
constexpr const char* kMeanings[] = {XD_STATUSES(XD_MEANING)};
#undef XD_MEANING

PyObject* make_class(nb::module_& module, const std::string& name, PyObject* base, const char* code,
                     const char* meaning) {
  nb::dict members;
  members["code"] = nb::str(code);
  // The class belongs to this module, so that the generated stub has it. crossdock/__init__.py sets its __module__ to
  // crossdock.
  const std::string path = nb::cast<std::string>(module.attr("__name__")) + "." + name;
  PyObject* made = PyErr_NewExceptionWithDoc(path.c_str(), meaning, base, members.ptr());
  if (!made) throw nb::python_error();
  module.attr(name.c_str()) = nb::handle(made);
  return made;
}

void translate(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const Error& error) {
    PyObject* type = classes[static_cast<int>(error.code())];
    PyErr_SetString(type ? type : base_class, error.what());
  }
}

}  // namespace

std::string class_name_of(StatusCode code) {
  std::string name;
  bool upper = true;
  for (const char c : name_of(code)) {
    if (c != '_') name += upper ? static_cast<char>(std::toupper(static_cast<unsigned char>(c))) : c;
    upper = c == '_';
  }
  return name + "Error";
}

void bind_errors(nb::module_& module) {
  base_class = make_class(
      module, "Error", PyExc_RuntimeError, "ok",
      "Base of all exceptions of Crossdock. `code` is the status, the text names the call, the values, the rank, the "
      "rule, and what to do.");
  for (std::size_t i = 1; i < std::size(kStatusNames); ++i) {
    const auto code = static_cast<StatusCode>(i);
    classes[i] = make_class(module, class_name_of(code), base_class, kStatusNames[i].data(), kMeanings[i]);
  }
  nb::register_exception_translator(translate);
}

}  // namespace crossdock::python
