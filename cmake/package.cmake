# SPDX-License-Identifier: Apache-2.0
# Install rules for headers, library, command, a CMake package and a pkg-config file. The installed tree is relocatable.
include(CMakePackageConfigHelpers)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/crossdock)

install(TARGETS crossdock EXPORT crossdockTargets)
install(EXPORT crossdockTargets NAMESPACE crossdock:: DESTINATION ${package_dir})
if(TARGET crossdock_cli)
  set_target_properties(crossdock_cli PROPERTIES INSTALL_RPATH "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  install(TARGETS crossdock_cli)
endif()
install(DIRECTORY include/crossdock DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(FILES README.md LICENSE bench/peers.json DESTINATION ${CMAKE_INSTALL_DOCDIR} OPTIONAL)

get_target_property(library_type crossdock TYPE)
string(COMPARE EQUAL ${library_type} STATIC_LIBRARY CROSSDOCK_IS_STATIC)
configure_package_config_file(cmake/crossdockConfig.cmake.in crossdockConfig.cmake INSTALL_DESTINATION ${package_dir}
                              NO_SET_AND_CHECK_MACRO NO_CHECK_REQUIRED_COMPONENTS_MACRO)
# Before 1.0 a minor version may change the interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/crossdockConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/crossdockConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/crossdockConfigVersion.cmake
        DESTINATION ${package_dir})

set(pc_dir ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
file(RELATIVE_PATH CROSSDOCK_PC_PREFIX /${pc_dir} /)  # relative path from the .pc file to the prefix
string(REGEX REPLACE "/$" "" CROSSDOCK_PC_PREFIX "${CROSSDOCK_PC_PREFIX}")
set(CROSSDOCK_PC_PRIVATE "-lstdc++ -pthread -ldl")  # a static library does not link these itself
if(CROSSDOCK_WITH_CUDA)
  string(APPEND CROSSDOCK_PC_PRIVATE " -lcudart_static -lrt")
endif()
configure_file(cmake/crossdock.pc.in crossdock.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/crossdock.pc DESTINATION ${pc_dir})

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_VENDOR "Crossdock authors")
set(CPACK_PACKAGE_FILE_NAME crossdock-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
include(CPack)
