# SPDX-License-Identifier: Apache-2.0
# Finds the compiler and header of the HIP backend, and defines the functions that compile device code. Sets
# CROSSDOCK_HIP_CLANG and CROSSDOCK_WITH_HIP.
#
# Device code needs a clang that supports the architectures, and nothing of ROCm. The host half needs HIP's runtime
# header and no library. Debian's clang-22 and libamdhip64-dev suffice; a ROCm installation works too (ROCM_PATH or
# /opt/rocm).
set(CROSSDOCK_HIP AUTO CACHE STRING "Build the HIP plug-in: AUTO (if clang and header are found), ON or OFF")
set_property(CACHE CROSSDOCK_HIP PROPERTY STRINGS AUTO ON OFF)
set(CROSSDOCK_HIP_ARCHITECTURES gfx942 gfx950 CACHE STRING "AMD GPUs for which device code is compiled")
option(CROSSDOCK_HIP_HARDWARE_CONVERSIONS "Convert e4m3 by the GPU's instructions; first let hip_tests compare all codes" OFF)

foreach(found CROSSDOCK_HIP_CLANG CROSSDOCK_HIP_INCLUDE)
  if(${found} AND NOT EXISTS ${${found}})
    unset(${found} CACHE)  # it was removed after an earlier configuration
  endif()
endforeach()
find_program(CROSSDOCK_HIP_CLANG NAMES clang++-22 amdclang++ HINTS ENV ROCM_PATH PATHS /opt/rocm PATH_SUFFIXES bin
             DOC "A clang that supports gfx942 and gfx950")
find_path(CROSSDOCK_HIP_INCLUDE hip/hip_runtime_api.h HINTS ENV ROCM_PATH PATHS /opt/rocm PATH_SUFFIXES include
          DOC "Folder of hip/hip_runtime_api.h")

# An older clang supports fewer GPUs. The plug-in is then built for these only, and the tests of the others fail.
set(CROSSDOCK_HIP_UNKNOWN)
file(WRITE ${CMAKE_BINARY_DIR}/CMakeFiles/empty.hip "")
foreach(architecture ${CROSSDOCK_HIP_ARCHITECTURES})
  set(is_rejected 1)
  if(CROSSDOCK_HIP_CLANG)
    execute_process(COMMAND ${CROSSDOCK_HIP_CLANG} -x hip --cuda-device-only --offload-arch=${architecture} -nogpuinc -nogpulib
                            -fsyntax-only ${CMAKE_BINARY_DIR}/CMakeFiles/empty.hip RESULT_VARIABLE is_rejected OUTPUT_QUIET ERROR_QUIET)
  endif()
  if(is_rejected)
    list(REMOVE_ITEM CROSSDOCK_HIP_ARCHITECTURES ${architecture})
    list(APPEND CROSSDOCK_HIP_UNKNOWN ${architecture})
    if(CROSSDOCK_HIP_CLANG)
      message(STATUS "Crossdock: ${CROSSDOCK_HIP_CLANG} does not know ${architecture}")
    endif()
  endif()
endforeach()
if(CROSSDOCK_HIP_CLANG AND NOT CROSSDOCK_HIP_ARCHITECTURES)
  set(CROSSDOCK_HIP_CLANG CROSSDOCK_HIP_CLANG-NOTFOUND)
endif()

set(CROSSDOCK_WITH_HIP OFF)
if(NOT CROSSDOCK_HIP MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "CROSSDOCK_HIP is `${CROSSDOCK_HIP}`; it may be AUTO, ON or OFF")
elseif(CROSSDOCK_HIP_CLANG AND CROSSDOCK_HIP_INCLUDE AND NOT CROSSDOCK_HIP STREQUAL "OFF")
  set(CROSSDOCK_WITH_HIP ON)
elseif(CROSSDOCK_HIP STREQUAL "ON")
  message(FATAL_ERROR "CROSSDOCK_HIP is ON; clang: ${CROSSDOCK_HIP_CLANG}, header: ${CROSSDOCK_HIP_INCLUDE}. "
                      "Set CROSSDOCK_HIP_CLANG and CROSSDOCK_HIP_INCLUDE, or turn it off")
endif()
message(STATUS "Crossdock: HIP ${CROSSDOCK_WITH_HIP} (clang: ${CROSSDOCK_HIP_CLANG}, header: ${CROSSDOCK_HIP_INCLUDE})")

# crossdock_hip_code(<variable> <source> <architecture> <flag>...): compiles to assembly, which tests check, and
# assembles it to a code object, which the plug-in loads. <variable>.s and <variable>.co are their paths.
function(crossdock_hip_code variable source architecture)
  get_filename_component(name ${source} NAME_WE)
  set(file ${CMAKE_CURRENT_BINARY_DIR}/${name}.${architecture})
  set(conversions $<$<BOOL:${CROSSDOCK_HIP_HARDWARE_CONVERSIONS}>:-DXD_HIP_HARDWARE_CONVERSIONS>)
  add_custom_command(
    OUTPUT ${file}.s
    COMMAND ${CROSSDOCK_HIP_CLANG} -x hip --cuda-device-only --no-gpu-bundle-output --offload-arch=${architecture}
            -std=c++20 -O3 ${CROSSDOCK_HIP_FLAGS} ${conversions} ${ARGN}
            -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/src -I${PROJECT_SOURCE_DIR}/include
            -S ${source} -o ${file}.s
            -Xclang -dependency-file -Xclang ${file}.d -Xclang -MT -Xclang ${file}.s  # -MD does not work here
    DEPENDS ${source} DEPFILE ${file}.d COMMENT "Compiling ${name} for ${architecture}" VERBATIM COMMAND_EXPAND_LISTS)
  add_custom_command(
    OUTPUT ${file}.co
    COMMAND ${CROSSDOCK_HIP_CLANG} --target=amdgcn-amd-amdhsa -mcpu=${architecture} ${file}.s -o ${file}.co
    DEPENDS ${file}.s COMMENT "Linking ${name} for ${architecture}" VERBATIM)
  set(${variable}.s ${file}.s PARENT_SCOPE)
  set(${variable}.co ${file}.co PARENT_SCOPE)
endfunction()

# crossdock_hip_carry(<variable> <source> <header> <namespace> <array> <flag>...): compiles for every architecture and
# writes a C++ file that embeds all code objects and defines <array>, which <header> declares. <variable> is its path,
# <variable>.s the list of assembly files.
function(crossdock_hip_carry variable source header namespace array)
  get_filename_component(name ${source} NAME_WE)
  set(included_bytes)
  set(declarations)
  set(rows)
  set(code_objects)
  set(assembly)
  foreach(architecture ${CROSSDOCK_HIP_ARCHITECTURES})
    crossdock_hip_code(code ${source} ${architecture} ${ARGN})
    list(APPEND code_objects ${code.co})
    list(APPEND assembly ${code.s})
    set(symbol ${name}_${architecture})
    string(APPEND included_bytes "  .balign 4096\n  .globl ${symbol}_begin, ${symbol}_end\n"
           "  .hidden ${symbol}_begin, ${symbol}_end\n"
           "${symbol}_begin:\n  .incbin \"${code.co}\"\n${symbol}_end:\n")
    string(APPEND declarations "extern const unsigned char ${symbol}_begin[], ${symbol}_end[];\n")
    string(APPEND rows "    {\"${architecture}\", ${symbol}_begin, ${symbol}_end},\n")
  endforeach()
  set(data ${CMAKE_CURRENT_BINARY_DIR}/${name}_code.cpp)
  configure_file(${PROJECT_SOURCE_DIR}/cmake/hip_code.cpp.in ${data} @ONLY)
  set_source_files_properties(${data} PROPERTIES OBJECT_DEPENDS "${code_objects}")
  set(${variable} ${data} PARENT_SCOPE)
  set(${variable}.s ${assembly} PARENT_SCOPE)
endfunction()
