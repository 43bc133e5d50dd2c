# SPDX-License-Identifier: MIT
# Header, libraries, pkg-config file and CMake package; all relocatable.

include(CMakePackageConfigHelpers)
install(TARGETS sipwire_shared sipwire_static EXPORT sipwire FILE_SET HEADERS)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/sipwire")
install(EXPORT sipwire NAMESPACE sipwire:: FILE sipwire-targets.cmake
  DESTINATION "${package_dir}")
write_basic_package_version_file(sipwire-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/sipwire-config-version.cmake"
  cmake/sipwire-config.cmake DESTINATION "${package_dir}")

set(pc_prefix "${CMAKE_INSTALL_PREFIX}")
if(NOT IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  file(RELATIVE_PATH up "/${CMAKE_INSTALL_LIBDIR}/pkgconfig" "/")
  set(pc_prefix "\${pcfiledir}/${up}")
endif()
cmake_path(APPEND pc_libdir "\${prefix}" "${CMAKE_INSTALL_LIBDIR}")
cmake_path(APPEND pc_includedir "\${prefix}" "${CMAKE_INSTALL_INCLUDEDIR}")
configure_file(cmake/sipwire.pc.in sipwire.pc @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/sipwire.pc"
  DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
