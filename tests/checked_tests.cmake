# Test programs of a build with sanitizers: the objects of the optimised build, behind our own libraries. Those are
# linked whole and first, so that of an inline function that a test's object holds, too, the checked one is kept.
set(optimised_tests ${PROJECT_SOURCE_DIR}/build/cpu-release/tests/CMakeFiles)

set(all_objects "")
foreach(folder ${test_folders})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${folder}/*.cpp)
  list(TRANSFORM sources REPLACE "^(.+)$" "${optimised_tests}/test_${folder}_objects.dir/\\1.o")
  list(APPEND all_objects ${sources})
endforeach()
add_custom_target(optimised_test_objects BYPRODUCTS ${all_objects}
  COMMAND ${PROJECT_SOURCE_DIR}/tools/build cpu-release test_objects
  COMMENT "Objects of the tests, from the optimised build")

function(trinix_checked_test name sources)
  list(TRANSFORM sources REPLACE "^(.+)$" "${optimised_tests}/${name}_objects.dir/\\1.o")
  set_source_files_properties(${sources} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_executable(${name} ${sources})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  add_dependencies(${name} optimised_test_objects)
  trinix_test_settings(${name})
  set(libraries $<TARGET_FILE:trinix>)
  if(TRINIX_TOOLS)
    list(APPEND libraries $<TARGET_FILE:trinix_tools>)
  endif()
  target_link_options(${name} PRIVATE LINKER:--whole-archive ${libraries} LINKER:--no-whole-archive)
endfunction()
