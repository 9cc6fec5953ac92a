# Every option of the build, in one place. None of them changes a public type.
option(TRINIX_NATIVE "Compile the CPU kernels for the machine that builds them" ${PROJECT_IS_TOP_LEVEL})
set(TRINIX_CPU_ARCH "x86-64-v3" CACHE STRING
    "Instruction set of the CPU kernels when TRINIX_NATIVE is OFF: x86-64-v3, x86-64-v4 or baseline")
set(TRINIX_CUDA "AUTO" CACHE STRING "CUDA backend: AUTO (on where nvcc is found), ON or OFF")
set_property(CACHE TRINIX_CUDA PROPERTY STRINGS AUTO ON OFF)
option(TRINIX_TOOLS "Build trinix::tools and the program trinix" ${PROJECT_IS_TOP_LEVEL})
option(TRINIX_TESTS "Build the tests" ${PROJECT_IS_TOP_LEVEL})
option(TRINIX_BENCH "Build the benchmarks" OFF)
option(TRINIX_FUZZ "Build the libFuzzer targets (Clang only)" OFF)
option(TRINIX_INSTALL "Generate the install rules" ${PROJECT_IS_TOP_LEVEL})
option(TRINIX_WERROR "Treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(TRINIX_STATIC_PROGRAM "Link the program trinix fully statically" OFF)
set(TRINIX_BATCH 0 CACHE STRING "How many files to compile as one, which makes a clean build shorter; 0: each alone")
set(TRINIX_SANITIZE "" CACHE STRING "Sanitizers for the whole build, for example address,undefined")

if(PROJECT_IS_TOP_LEVEL AND NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "Build type" FORCE)
endif()
