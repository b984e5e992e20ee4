// SPDX-License-Identifier: Apache-2.0
#include "platform/plugin.hpp"

#include <dlfcn.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace crossdock::platform {
namespace {

/// A plug-in, or the reason why there is none.
struct Found {
  const Plugin* plugin = nullptr;
  std::string note;
};

/// The folder of this shared library, or of the program if it is linked statically.
std::string own_folder() {
  static const char here = 0;
  Dl_info info{};
  if (::dladdr(&here, &info) == 0 || !info.dli_fname) return ".";
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash);
}

Found load(BackendKind kind) {
  const char* wanted = std::getenv("CROSSDOCK_PLUGIN_DIR");
  const std::string folder = wanted && *wanted ? wanted : own_folder();
  const std::string file = "libcrossdock_" + std::string(name_of(kind)) + ".so", path = folder + "/" + file;
  if (::access(path.c_str(), F_OK) != 0) return {nullptr, "no " + file + " in " + folder};
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = ::dlerror();
    return {nullptr, path + " does not load: " + (why ? why : "no reason given")};
  }
  const auto* plugin = static_cast<const Plugin*>(::dlsym(library, "crossdock_plugin"));
  if (!plugin) return {nullptr, path + " is no plug-in of Crossdock"};
  if (std::string_view(plugin->version) != CROSSDOCK_VERSION)
    return {nullptr, path + " is of version " + plugin->version + ", this library of " CROSSDOCK_VERSION};
  return {plugin, {}};
}

}  // namespace

const Plugin* find_plugin(BackendKind kind, const char** note) {
  if (kind != BackendKind::hip) {
    *note = "not built into this library";
    return nullptr;
  }
  static const Found hip = load(kind);
  *note = hip.note.c_str();
  return hip.plugin;
}

}  // namespace crossdock::platform
