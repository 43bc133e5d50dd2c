# SPDX-License-Identifier: MIT
# One module per Lua, from src/lua alone: it sees sipwire.h and Lua's headers.

file(GLOB binding CONFIGURE_DEPENDS src/lua/*.c)

# sipwire_add_lua makes lua/NAME/sipwire/core.so.  It stands alone but for Lua,
# which the program that loads it brings along: linking it would make two.
function(sipwire_add_lua name)
  add_library(sipwire_${name} MODULE ${binding})
  target_include_directories(sipwire_${name} SYSTEM PRIVATE ${ARGN})
  target_link_libraries(sipwire_${name} PRIVATE sipwire_options sipwire_static)
  target_link_options(sipwire_${name} PRIVATE -Wl,-z,nodelete
    "-Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/core.map")
  set_target_properties(sipwire_${name} PROPERTIES PREFIX "" OUTPUT_NAME core
    LIBRARY_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/lua/${name}/sipwire")
endfunction()

function(sipwire_install_lua name module_dir lua_dir)
  install(TARGETS sipwire_${name} LIBRARY DESTINATION "${module_dir}/sipwire")
  install(DIRECTORY lua/ DESTINATION "${lua_dir}" FILES_MATCHING PATTERN "*.lua")
endfunction()

if(LUA_INCDIR)
  sipwire_add_lua(rock "${LUA_INCDIR}")
  sipwire_install_lua(rock "${LIBDIR}" "${LUADIR}")
  return()
endif()

set(wanted ${SIPWIRE_LUA})
if(SIPWIRE_LUA STREQUAL "auto")
  set(wanted lua5.1 luajit lua5.3 lua5.4)
endif()
list(SORT wanted) # of two with the same directories, lua5.1 before luajit
set(built "")
set(versions "")
foreach(name IN LISTS wanted)
  pkg_check_modules(${name} QUIET ${name})
  if(${name}_FOUND)
    sipwire_add_lua(${name} ${${name}_INCLUDE_DIRS})
    list(APPEND built ${name})
    string(REGEX MATCH "^5\\.[0-9]+" version "${${name}_VERSION}")
    if(NOT version) # LuaJIT 2.x reads the directories of 5.1
      set(version 5.1)
    endif()
    if(NOT version IN_LIST versions)
      list(APPEND versions ${version})
      sipwire_install_lua(${name} "${CMAKE_INSTALL_LIBDIR}/lua/${version}"
        "${CMAKE_INSTALL_DATADIR}/lua/${version}")
    endif()
  elseif(NOT SIPWIRE_LUA STREQUAL "auto")
    message(FATAL_ERROR "SIPWIRE_LUA: pkg-config does not find ${name}")
  endif()
endforeach()
message(STATUS "Lua modules: ${built}")
