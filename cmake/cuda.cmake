# SPDX-License-Identifier: Apache-2.0
# Finds nvcc and enables CUDA unless CROSSDOCK_CUDA is OFF. Sets CROSSDOCK_NVCC and CROSSDOCK_WITH_CUDA.
if(CROSSDOCK_NVCC AND NOT EXISTS ${CROSSDOCK_NVCC})
  unset(CROSSDOCK_NVCC CACHE)  # it was removed after an earlier configuration
endif()
find_program(CROSSDOCK_NVCC nvcc HINTS ENV CUDACXX ENV CUDA_PATH PATH_SUFFIXES bin
             PATHS /usr/local/cuda/bin ${PROJECT_SOURCE_DIR}/.cache/cuda/bin DOC "The CUDA compiler")

if(NOT CROSSDOCK_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "CROSSDOCK_CUDA is `${CROSSDOCK_CUDA}`; it may be AUTO, ON or OFF")
elseif(CROSSDOCK_CUDA STREQUAL "ON" AND NOT CROSSDOCK_NVCC)
  message(FATAL_ERROR "CROSSDOCK_CUDA is ON, but there is no nvcc: set CROSSDOCK_NVCC or CUDACXX, or turn it off")
endif()

set(CROSSDOCK_WITH_CUDA OFF)
file(GLOB_RECURSE cuda_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/src/*.cu)
if(CROSSDOCK_NVCC AND cuda_sources AND NOT CROSSDOCK_CUDA STREQUAL "OFF")
  set(CROSSDOCK_WITH_CUDA ON)
  set(CMAKE_CUDA_COMPILER ${CROSSDOCK_NVCC})
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90)
  endif()
  if(CMAKE_VERSION VERSION_LESS 3.26)  # it has no C++20 flag for nvcc
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
endif()
message(STATUS "Crossdock: CUDA ${CROSSDOCK_WITH_CUDA} (nvcc: ${CROSSDOCK_NVCC})")
