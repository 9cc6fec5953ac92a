# Public headers are included as <trinix/core/tensor.h>, in the build tree and when installed. In the build tree
# include/trinix/<folder> is a link to the folder, and the two generated headers stand beside the links.
set(TRINIX_INCLUDE_DIR ${PROJECT_BINARY_DIR}/include)
file(MAKE_DIRECTORY ${TRINIX_INCLUDE_DIR}/trinix)
foreach(folder core autograd backends layers optim tools)
  file(CREATE_LINK ${PROJECT_SOURCE_DIR}/${folder} ${TRINIX_INCLUDE_DIR}/trinix/${folder} SYMBOLIC)
endforeach()
configure_file(${PROJECT_SOURCE_DIR}/cmake/version.h.in ${TRINIX_INCLUDE_DIR}/trinix/version.h @ONLY)
configure_file(${PROJECT_SOURCE_DIR}/cmake/trinix.h.in ${TRINIX_INCLUDE_DIR}/trinix/trinix.h COPYONLY)

function(trinix_include_directories target)
  target_include_directories(${target} PUBLIC
    $<BUILD_INTERFACE:${TRINIX_INCLUDE_DIR}> $<INSTALL_INTERFACE:include>)
endfunction()
