# Test programs of a build with sanitizers: the objects of the optimised build, behind our own libraries. Those are
# linked whole and first, so that of an inline function that a test's object holds, too, the checked one is kept.
set(optimised_tests ${PROJECT_SOURCE_DIR}/build/cpu-release/tests/CMakeFiles)

# The objects of a test program there; `batch` of its sources are compiled as one, as the preset says.
function(trinix_optimised_objects result name sources)
  set(batch ${TRINIX_BATCH})
  if(batch)
    list(LENGTH sources count)
    math(EXPR last "(${count} - 1) / ${batch}")
    set(objects "")
    foreach(i RANGE ${last})
      list(APPEND objects "${optimised_tests}/${name}_objects.dir/Unity/unity_${i}_cxx.cxx.o")
    endforeach()
  else()
    list(TRANSFORM sources REPLACE "^(.+)$" "${optimised_tests}/${name}_objects.dir/\\1.o" OUTPUT_VARIABLE objects)
  endif()
  set(${result} "${objects}" PARENT_SCOPE)
endfunction()

set(all_objects "")
foreach(folder ${test_folders})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} ${folder}/*.cpp)
  trinix_optimised_objects(objects test_${folder} "${sources}")
  list(APPEND all_objects ${objects})
endforeach()
add_custom_target(optimised_test_objects BYPRODUCTS ${all_objects}
  COMMAND ${PROJECT_SOURCE_DIR}/tools/build cpu-release test_objects
  COMMENT "Objects of the tests, from the optimised build")

function(trinix_checked_test name sources)
  trinix_optimised_objects(objects ${name} "${sources}")
  set_source_files_properties(${objects} PROPERTIES EXTERNAL_OBJECT ON GENERATED ON)
  add_executable(${name} ${objects})
  set_target_properties(${name} PROPERTIES LINKER_LANGUAGE CXX)
  add_dependencies(${name} optimised_test_objects)
  trinix_test_settings(${name})
  set(libraries $<TARGET_FILE:trinix>)
  if(TRINIX_TOOLS)
    list(APPEND libraries $<TARGET_FILE:trinix_tools>)
  endif()
  target_link_options(${name} PRIVATE LINKER:--whole-archive ${libraries} LINKER:--no-whole-archive)
endfunction()
