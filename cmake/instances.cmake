# SPDX-License-Identifier: Apache-2.0
# Writes one source file per row of src/kernels/launch/instances.def from a template.
set(CROSSDOCK_INSTANCES ${PROJECT_SOURCE_DIR}/src/kernels/launch/instances.def)
set_property(DIRECTORY ${PROJECT_SOURCE_DIR} APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CROSSDOCK_INSTANCES})

# crossdock_instances(<variable> <template> <extension>): sets <variable> to the written files.
function(crossdock_instances variable template extension)
  file(STRINGS ${CROSSDOCK_INSTANCES} rows REGEX "^XD_COMBINE")
  set(files)
  foreach(row ${rows})
    string(REGEX MATCH "\\(([a-z0-9_]+), ([a-z0-9_]+)\\)" _ ${row})
    set(XD_DTYPE ${CMAKE_MATCH_1})
    set(XD_QUANT ${CMAKE_MATCH_2})
    set(file ${CMAKE_CURRENT_BINARY_DIR}/instances/${extension}/combine_${XD_DTYPE}_${XD_QUANT}.${extension})
    configure_file(${template} ${file} @ONLY)
    list(APPEND files ${file})
  endforeach()
  set(${variable} ${files} PARENT_SCOPE)
endfunction()
