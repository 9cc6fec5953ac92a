# Flags of our own sources. All PRIVATE: a consumer gets none of them.
function(trinix_private_settings target)
  # Options and op arguments are structs with designated initialisers; what a caller leaves out has its default.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wno-missing-field-initializers>)
  if(TRINIX_WERROR)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
  endif()
  # Each function in a section of its own, so that a program which links the static library holds only what it calls.
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-ffunction-sections -fdata-sections>)
  # What is hot lies in backends/, which asks for more where that pays; elsewhere it would only make the library larger.
  target_compile_options(${target} PRIVATE $<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CONFIG:Release>>:-Os>)
  if(TRINIX_SANITIZE)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:${TRINIX_SANITIZER_FLAGS}>)
    target_link_options(${target} PRIVATE -fsanitize=${TRINIX_SANITIZE})
  endif()
  target_link_libraries(${target} PRIVATE $<BUILD_INTERFACE:trinix_private_packages>)
  if(TRINIX_BATCH)
    # Files of a folder compiled as one: what they instantiate alike is compiled once. CPU kernels have flags of their
    # own and stay single.
    set_target_properties(${target} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${TRINIX_BATCH})
    # A class that is private to one of the files may hold what is private to it.
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
  endif()
endfunction()

# Left out of `undefined`, because it takes a third of the compile time and finds nothing here: `null`, since a null
# pointer that is used stops the program anyway, and `vptr`, since nothing casts down a hierarchy but dynamic_cast.
set(TRINIX_SANITIZER_FLAGS -fsanitize=${TRINIX_SANITIZE} -fno-sanitize=null,vptr -fno-sanitize-recover=all
    -fno-omit-frame-pointer)

# Headers that nearly every file of a target reads are parsed once. Each file includes what it uses all the same: the
# preset cuda-release compiles without this.
function(trinix_precompile target)
  list(TRANSFORM ARGN REPLACE ">$" "$<ANGLE-R>")
  list(TRANSFORM ARGN REPLACE "^(.+)$" "$<$<COMPILE_LANGUAGE:CXX>:\\1>")
  target_precompile_headers(${target} PRIVATE ${ARGN})
endfunction()

# Instruction set and arithmetic of the CPU kernels (backends/cpu). Strict about NaN and infinity; what is given up is
# errno and the floating-point trap state, which nothing here reads and which would forbid vectorisation.
set(TRINIX_CPU_KERNEL_FLAGS -fno-math-errno -fno-trapping-math)
if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
  # Clang warns of each loop marked for vectorisation that it leaves scalar; slower is no error.
  list(APPEND TRINIX_CPU_KERNEL_FLAGS -Wno-pass-failed)
endif()
if(TRINIX_NATIVE)
  list(APPEND TRINIX_CPU_KERNEL_FLAGS -march=native)
  set(TRINIX_CPU_ARCH_TEXT "native")
elseif(TRINIX_CPU_ARCH STREQUAL "baseline")
  set(TRINIX_CPU_ARCH_TEXT "x86-64")
else()
  list(APPEND TRINIX_CPU_KERNEL_FLAGS -march=${TRINIX_CPU_ARCH})
  set(TRINIX_CPU_ARCH_TEXT "${TRINIX_CPU_ARCH}")
endif()
# GCC and Clang default to 256-bit vectors on AVX-512 machines; full-width units gain from 512.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND TRINIX_CPU_KERNEL_FLAGS -mprefer-vector-width=512)
endif()
