# The installed tree: headers, libraries, the program, and what find_package and pkg-config need. Everything in it is
# found relative to itself, so that the folder can be moved.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# Headers. Left out: core/detail (error texts), the CPU backend and the program's own.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/core ${PROJECT_SOURCE_DIR}/autograd
                  ${PROJECT_SOURCE_DIR}/layers ${PROJECT_SOURCE_DIR}/optim
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trinix
        FILES_MATCHING PATTERN "*.h" PATTERN "detail" EXCLUDE)
install(FILES ${TRINIX_INCLUDE_DIR}/trinix/trinix.h ${TRINIX_INCLUDE_DIR}/trinix/version.h
        DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trinix)

set(trinix_installed trinix)
if(TRINIX_TOOLS)
  install(DIRECTORY ${PROJECT_SOURCE_DIR}/tools/lib DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/trinix/tools
          FILES_MATCHING PATTERN "*.h" PATTERN "detail" EXCLUDE)
  list(APPEND trinix_installed trinix_tools)
  # The installed program and trinix-tools find the libraries beside them wherever the folder lies.
  file(RELATIVE_PATH bin_to_lib ${CMAKE_INSTALL_FULL_BINDIR} ${CMAKE_INSTALL_FULL_LIBDIR})
  set_target_properties(trinix_program PROPERTIES INSTALL_RPATH "$ORIGIN/${bin_to_lib}")
  set_target_properties(trinix_tools PROPERTIES INSTALL_RPATH "$ORIGIN")
  install(TARGETS trinix_program RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(TARGETS ${trinix_installed} EXPORT trinix-targets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
        LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
        RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# find_package(trinix)
set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/trinix)
install(EXPORT trinix-targets NAMESPACE trinix:: DESTINATION ${package_dir})
get_target_property(trinix_library_type trinix TYPE)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/trinix-config.cmake.in
  ${PROJECT_BINARY_DIR}/trinix-config.cmake INSTALL_DESTINATION ${package_dir}
  NO_SET_AND_CHECK_MACRO)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/trinix-config-version.cmake
  VERSION ${PROJECT_VERSION} COMPATIBILITY SameMajorVersion)
install(FILES ${PROJECT_BINARY_DIR}/trinix-config.cmake ${PROJECT_BINARY_DIR}/trinix-config-version.cmake
        DESTINATION ${package_dir})

# pkg-config. A static archive needs what it was built with at every link; a shared library carries that itself.
set(private_libraries "-lstdc++")
foreach(name ${OpenMP_CXX_LIB_NAMES})
  string(APPEND private_libraries " -l${name}")
endforeach()
string(APPEND private_libraries " -pthread -lm")
if(TRINIX_WITH_CUDA)
  string(APPEND private_libraries " -L${CUDAToolkit_LIBRARY_DIR} -lcudart_static -ldl -lrt")
endif()
if(trinix_library_type STREQUAL "SHARED_LIBRARY")
  set(TRINIX_PC_LIBS "-ltrinix")
  set(TRINIX_PC_LIBS_PRIVATE "${private_libraries}")
else()
  set(TRINIX_PC_LIBS "-ltrinix ${private_libraries}")
  set(TRINIX_PC_LIBS_PRIVATE "")
endif()
foreach(kind LIBDIR INCLUDEDIR)
  file(RELATIVE_PATH TRINIX_PC_${kind} ${CMAKE_INSTALL_PREFIX} ${CMAKE_INSTALL_FULL_${kind}})
endforeach()
file(RELATIVE_PATH TRINIX_PC_TO_PREFIX ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(${PROJECT_SOURCE_DIR}/cmake/trinix.pc.in ${PROJECT_BINARY_DIR}/trinix.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/trinix.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
