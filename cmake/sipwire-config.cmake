# Gives sipwire::sipwire (shared) and sipwire::static, which is linked with
# libuv and OpenSSL under these names.
include(CMakeFindDependencyMacro)
find_dependency(PkgConfig)
find_dependency(Threads)
pkg_check_modules(UV QUIET IMPORTED_TARGET libuv)
pkg_check_modules(OPENSSL QUIET IMPORTED_TARGET openssl)

include("${CMAKE_CURRENT_LIST_DIR}/sipwire-targets.cmake")
