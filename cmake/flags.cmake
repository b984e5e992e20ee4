# SPDX-License-Identifier: Apache-2.0
# Every compile flag of the project. Targets link crossdock_flags; nothing else sets flags.
#
# No compiler may contract a product and a sum to one operation with one rounding: tests compare results of all machines
# bit for bit.

# Host code in C and C++.
set(CROSSDOCK_CXX_FLAGS -Wall -Wextra -ffp-contract=off)
# nvcc. It passes the flags behind -Xcompiler to the host compiler.
set(CROSSDOCK_CUDA_FLAGS --fmad=false --expt-relaxed-constexpr
    -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas)  # host code contains `#pragma unroll`
# clang as a HIP compiler, without a ROCm installation.
set(CROSSDOCK_HIP_FLAGS -nogpuinc -nogpulib ${CROSSDOCK_CXX_FLAGS})
set(CROSSDOCK_SANITIZE_FLAGS)

if(CROSSDOCK_WERROR)
  list(APPEND CROSSDOCK_CXX_FLAGS -Werror)
  list(APPEND CROSSDOCK_CUDA_FLAGS --Werror=all-warnings -Xcompiler=-Werror)
  list(APPEND CROSSDOCK_HIP_FLAGS -Werror)
endif()

if(CROSSDOCK_SANITIZE STREQUAL "address")
  set(CROSSDOCK_SANITIZE_FLAGS -fsanitize=address,undefined -fno-sanitize-recover=all)
elseif(CROSSDOCK_SANITIZE STREQUAL "thread")
  set(CROSSDOCK_SANITIZE_FLAGS -fsanitize=thread)
elseif(CROSSDOCK_SANITIZE)
  message(FATAL_ERROR "CROSSDOCK_SANITIZE is `${CROSSDOCK_SANITIZE}`; it may be empty, `address` or `thread`")
endif()

add_library(crossdock_flags INTERFACE)
target_compile_features(crossdock_flags INTERFACE cxx_std_20)
target_compile_options(crossdock_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${CROSSDOCK_CXX_FLAGS}>"
                                                 "$<$<COMPILE_LANGUAGE:CUDA>:${CROSSDOCK_CUDA_FLAGS}>")
# Targets with the property CROSSDOCK_BRIEF, tests and the command, take longer to compile than to run: less optimisation.
set(is_brief $<BOOL:$<TARGET_PROPERTY:CROSSDOCK_BRIEF>>)
if(CROSSDOCK_SANITIZE)
  # g++ sees ghosts in instrumented code of the standard library
  set(slow_but_readable $<IF:${is_brief},-O0,-O1> -g1 -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  target_compile_options(crossdock_flags INTERFACE "$<$<COMPILE_LANGUAGE:C,CXX>:${CROSSDOCK_SANITIZE_FLAGS};${slow_but_readable}>")
  target_link_options(crossdock_flags INTERFACE ${CROSSDOCK_SANITIZE_FLAGS})
else()
  target_compile_options(crossdock_flags INTERFACE "$<$<AND:$<COMPILE_LANGUAGE:C,CXX>,$<CONFIG:Release>,${is_brief}>:-O1>")
endif()

# For the oracle, which sanitizers do not look at: most of the time of a test is its own, unless it is optimised.
add_library(crossdock_uninstrumented_flags INTERFACE)
target_compile_options(crossdock_uninstrumented_flags INTERFACE ${CROSSDOCK_CXX_FLAGS} $<$<BOOL:${CROSSDOCK_SANITIZE}>:-O2>)

# Of what was compiled against a precompiled header, ccache takes nothing.
if(CMAKE_CXX_COMPILER_LAUNCHER MATCHES "ccache")
  set(CMAKE_DISABLE_PRECOMPILE_HEADERS ON)
endif()

set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
