#pragma once

#include <cublasLt.h>

/// @file
/// cuBLASLt, opened when the first matrix product asks for it: a program that links this library starts on machines
/// without CUDA, and without the half gigabyte that cuBLASLt takes.

namespace trinix::cuda {

/// The entry points in use.
struct BlasLibrary {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtMatmul) matmul;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic;
  decltype(&cublasLtGetVersion) version;
};

/// @throws DeviceError naming the library when it cannot be opened.
[[nodiscard]] const BlasLibrary& blas_library();

/// @throws DeviceError with the status when it is not success; `what` names the call.
void check_blas(cublasStatus_t status, const char* what);

/// A handle of the current device, made once per device.
[[nodiscard]] cublasLtHandle_t blas_handle(int device);

}  // namespace trinix::cuda
