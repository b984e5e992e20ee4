# SPDX-License-Identifier: Apache-2.0
# Finds the libraries of tools and tests: installed ones, else those that `./dev carry` has copied next to the sources
# for machines without a network.
set(CROSSDOCK_CARRIED ${PROJECT_SOURCE_DIR}/.cache/carried CACHE PATH "Where `./dev carry` has put libraries")

# crossdock_find(<package> <target> <folder>): finds a header-only library.
function(crossdock_find package target folder)
  find_package(${package} QUIET)
  if(TARGET ${target})
    return()
  endif()
  if(NOT EXISTS ${CROSSDOCK_CARRIED}/include/${folder})
    message(FATAL_ERROR "${package} is neither installed nor in ${CROSSDOCK_CARRIED}; `./dev carry` puts it there")
  endif()
  add_library(${target} INTERFACE IMPORTED GLOBAL)
  set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${CROSSDOCK_CARRIED}/include)
endfunction()

# Finds GoogleTest, or builds it from its sources if it is not installed.
macro(crossdock_find_googletest)
  find_package(GTest QUIET)
  if(NOT TARGET GTest::gtest_main)
    if(NOT EXISTS ${CROSSDOCK_CARRIED}/googletest)
      message(FATAL_ERROR "GoogleTest is neither installed nor in ${CROSSDOCK_CARRIED}; `./dev carry` puts it there")
    endif()
    set(BUILD_GMOCK OFF CACHE BOOL "" FORCE)
    set(INSTALL_GTEST OFF CACHE BOOL "" FORCE)
    add_subdirectory(${CROSSDOCK_CARRIED}/googletest ${PROJECT_BINARY_DIR}/googletest EXCLUDE_FROM_ALL)
    if(NOT TARGET GTest::gtest_main)
      add_library(GTest::gtest ALIAS gtest)
      add_library(GTest::gtest_main ALIAS gtest_main)
    endif()
  endif()
endmacro()
