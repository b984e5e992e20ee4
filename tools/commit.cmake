# SPDX-License-Identifier: Apache-2.0
# cmake -D SOURCE=<folder> -D HEADER=<file> -P commit.cmake: writes the commit of the sources into a header, if it changed.
set(commit unknown)
find_package(Git QUIET)
if(Git_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${SOURCE} describe --always --dirty --exclude=* --abbrev=10
                  OUTPUT_VARIABLE described OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE status)
  if(status EQUAL 0)
    set(commit ${described})
  endif()
endif()
if(commit STREQUAL unknown AND EXISTS ${SOURCE}/.cache/carried/commit)  # sources without their history
  file(STRINGS ${SOURCE}/.cache/carried/commit commit LIMIT_COUNT 1)
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define CROSSDOCK_COMMIT \"${commit}\"\n")
