# SPDX-License-Identifier: MIT
# C tests, fuzzers, and checks of what is built and installed.

set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/spec")

# sipwire_add_program builds spec/.../NAME.c.  Named after a pure file it is
# linked with the pure objects only.  Its first lines may say
# "/* link: -Wl,... */".  A fuzzer may have parts in spec/fuzz/NAME.
function(sipwire_add_program source name)
  string(REGEX REPLACE "^(test|fuzz)_" "" subject "${name}")
  add_executable(${name} "${source}" ${ARGN})
  target_include_directories(${name} PRIVATE include src spec/c)
  target_link_libraries(${name} PRIVATE sipwire_options)
  if(subject IN_LIST SIPWIRE_PURE)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:sipwire_pure>)
  else()
    target_link_libraries(${name} PRIVATE sipwire_static ${dependencies})
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS "${source}")
  file(STRINGS "${source}" head LIMIT_COUNT 8)
  string(REGEX MATCHALL "-Wl,[-=,_A-Za-z0-9]+" flags "${head}")
  target_link_options(${name} PRIVATE ${flags})
endfunction()

if(SIPWIRE_SANITIZE MATCHES "fuzzer")
  file(GLOB fuzzers CONFIGURE_DEPENDS spec/fuzz/fuzz_*.c)
  foreach(source IN LISTS fuzzers)
    cmake_path(GET source STEM name)
    string(REPLACE "fuzz_" "" subject "${name}")
    file(GLOB parts CONFIGURE_DEPENDS "spec/fuzz/${subject}/*.c")
    sipwire_add_program("${source}" ${name} ${parts})
    # New ways through a fuzzer itself are no finds; and its parts, which the
    # library sees only copies of, have to be fast.
    set_source_files_properties("${source}" PROPERTIES
      COMPILE_OPTIONS -fno-sanitize=fuzzer-no-link)
    set_source_files_properties(${parts} PROPERTIES
      COMPILE_OPTIONS "-O2;-fno-sanitize=all")
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
    add_test(NAME ${name} COMMAND "${PROJECT_SOURCE_DIR}/spec/fuzz/run.sh"
      $<TARGET_FILE:${name}>)
    set_tests_properties(${name} PROPERTIES TIMEOUT 600)
  endforeach()
  return()
endif()

file(GLOB tests CONFIGURE_DEPENDS spec/c/test_*.c)
foreach(source IN LISTS tests)
  cmake_path(GET source STEM name)
  sipwire_add_program("${source}" ${name} spec/c/test.c)
  add_test(NAME ${name} COMMAND ${name}
    WORKING_DIRECTORY "${PROJECT_SOURCE_DIR}")
  # A program that ran none of its tests has not passed.
  set_tests_properties(${name} PROPERTIES TIMEOUT 120
    FAIL_REGULAR_EXPRESSION ": 0 passed, ")
endforeach()

if(NOT SIPWIRE_SANITIZE)
  add_executable(bench_codec spec/bench/bench_codec.c)
  target_link_libraries(bench_codec PRIVATE sipwire_options sipwire_pure)
  target_include_directories(bench_codec PRIVATE src)
  add_test(NAME symbols COMMAND "${PROJECT_SOURCE_DIR}/spec/c/symbols.sh"
    "${PROJECT_BINARY_DIR}" "$<TARGET_OBJECTS:sipwire_pure>")
  add_test(NAME consumer COMMAND "${PROJECT_SOURCE_DIR}/spec/c/consumer.sh"
    "${PROJECT_BINARY_DIR}" "${CMAKE_C_COMPILER}" "${CMAKE_COMMAND}")
  set_tests_properties(symbols consumer PROPERTIES TIMEOUT 120)
endif()
