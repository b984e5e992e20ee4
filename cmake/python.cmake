# SPDX-License-Identifier: Apache-2.0
# Settings for a wheel. Wheels cannot contain symbolic links, so each library is one file. The command is built only if
# its header-only libraries are installed.
set(CMAKE_INSTALL_LIBDIR lib)
set(CMAKE_PLATFORM_NO_VERSIONED_SONAME ON)
find_package(CLI11 QUIET)
find_package(nlohmann_json QUIET)
find_package(fmt QUIET)
if(CROSSDOCK_TOOLS AND NOT (CLI11_FOUND AND nlohmann_json_FOUND AND fmt_FOUND))
  message(STATUS "Crossdock: no CLI11, nlohmann-json or fmt, so the wheel goes without the command `crossdock`")
  set(CROSSDOCK_TOOLS OFF)
endif()
