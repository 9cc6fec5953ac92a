# What the build needs. All but OpenMP and threads are private: they never reach a consumer.
if(TRINIX_STATIC_PROGRAM AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND NOT OpenMP_gomp_LIBRARY MATCHES "\\.a$")
  # A fully static program needs the archive of the compiler's OpenMP runtime; CMake would find the shared one, or has, in
  # a build folder that was configured before.
  execute_process(COMMAND ${CMAKE_CXX_COMPILER} -print-file-name=libgomp.a
                  OUTPUT_VARIABLE gomp OUTPUT_STRIP_TRAILING_WHITESPACE)
  set(OpenMP_gomp_LIBRARY ${gomp} CACHE FILEPATH "The OpenMP runtime to link" FORCE)
endif()
find_package(OpenMP REQUIRED COMPONENTS CXX)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(Eigen3 3.4 REQUIRED NO_MODULE)
find_package(fmt REQUIRED)
find_package(nlohmann_json 3.10 REQUIRED)
if(TRINIX_TOOLS)
  find_package(CLI11 REQUIRED)
endif()
if(TRINIX_TESTS)
  find_package(GTest REQUIRED)
endif()
if(TRINIX_BENCH)
  find_package(benchmark REQUIRED)
endif()

# Header-only use of the private packages: their include directories, without an exported link.
add_library(trinix_private_packages INTERFACE)
target_include_directories(trinix_private_packages SYSTEM INTERFACE
  $<TARGET_PROPERTY:Eigen3::Eigen,INTERFACE_INCLUDE_DIRECTORIES>
  $<TARGET_PROPERTY:fmt::fmt-header-only,INTERFACE_INCLUDE_DIRECTORIES>
  $<TARGET_PROPERTY:nlohmann_json::nlohmann_json,INTERFACE_INCLUDE_DIRECTORIES>)
# Our copy of Eigen lives in a namespace of its own: a host program that also uses Eigen, compiled for another
# instruction set, must not share inline functions with ours (the linker keeps just one of them).
target_compile_definitions(trinix_private_packages INTERFACE
  FMT_HEADER_ONLY=1 Eigen=trinix_eigen EIGEN_DONT_PARALLELIZE EIGEN_NO_DEBUG)
