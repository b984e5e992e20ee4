// SPDX-License-Identifier: Apache-2.0
// The module crossdock._core: the C++ interface, with arrays instead of pointers.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <iterator>

#include "crossdock/crossdock.hpp"

#include "binding.hpp"
#include "enums.hpp"
#include "errors.hpp"
#include "retired.hpp"

namespace nb = nanobind;
using namespace crossdock;

namespace {

nb::list backends() {
  BackendInfo found[std::size(kBackendNames)];
  const int count = list_backends(found, static_cast<int>(std::size(found)));
  nb::list all;
  for (int i = 0; i < count; ++i) {
    const std::string_view name = name_of(found[i].kind);
    nb::dict line;
    line["backend"] = nb::str(name.data(), name.size());
    line["num_devices"] = found[i].num_devices;
    line["note"] = nb::str(found[i].note ? found[i].note : "");
    all.append(line);
  }
  return all;
}

}  // namespace

nb::object python::result_class(const char* name) { return nb::module_::import_("crossdock._results").attr(name); }

NB_MODULE(_core, module) {
  nb::set_leak_warnings(false);  // objects may be alive when the interpreter exits
  module.doc() = "The C++ interface of Crossdock; import crossdock instead.";
  module.attr("__version__") = version();
  module.attr("DTYPES") = python::tuple_of(kDtypeNames);
  module.attr("LAYOUTS") = python::tuple_of(kLayoutNames);
  module.attr("COMBINE_QUANTS") = python::tuple_of(kCombineQuantNames);
  module.attr("OVERFLOWS") = python::tuple_of(kOverflowNames);
  module.attr("BACKENDS") = python::tuple_of(kBackendNames);
  module.attr("STATUSES") = python::tuple_of(kStatusNames);
  module.attr("MAX_RANKS") = kMaxRanks;
  module.attr("MAX_TOPK") = kMaxTopk;
  module.def("backends", &backends,
             "Machines that can be used right now: backend, num_devices, and why there are none.");
  python::bind_errors(module);
  python::bind_retired(module);
  python::bind_config(module);
  python::bind_stream(module);
  python::bind_group(module);
  python::bind_exchange(module);
}
