#include <dlfcn.h>
#include <map>
#include <mutex>
#include <string>

#include <trinix/backends/cuda/blas/library.h>
#include <trinix/backends/cuda/check.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>

namespace trinix::cuda {

namespace {

using trinix::detail::fail;

void* open_library() {
  const std::string name = "libcublasLt.so." + std::to_string(CUBLAS_VER_MAJOR);
  void* library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    fail<DeviceError>("matmul",
                      "matrix products on CUDA need {}: {}; install cuBLAS of CUDA {} or add its folder to "
                      "LD_LIBRARY_PATH",
                      name, dlerror(), CUBLAS_VER_MAJOR);
  }
  return library;
}

template <class F>
void load(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
  if (function == nullptr) fail<DeviceError>("matmul", "cuBLASLt has no function {}", name);
}

BlasLibrary load_all() {
  void* const library = open_library();  // stays open: kernels of it may be queued until the process ends
  BlasLibrary b{};
  load(library, "cublasLtCreate", b.create);
  load(library, "cublasLtMatmul", b.matmul);
  load(library, "cublasLtMatmulDescCreate", b.desc_create);
  load(library, "cublasLtMatmulDescDestroy", b.desc_destroy);
  load(library, "cublasLtMatmulDescSetAttribute", b.desc_set);
  load(library, "cublasLtMatrixLayoutCreate", b.layout_create);
  load(library, "cublasLtMatrixLayoutDestroy", b.layout_destroy);
  load(library, "cublasLtMatrixLayoutSetAttribute", b.layout_set);
  load(library, "cublasLtMatmulPreferenceCreate", b.preference_create);
  load(library, "cublasLtMatmulPreferenceDestroy", b.preference_destroy);
  load(library, "cublasLtMatmulPreferenceSetAttribute", b.preference_set);
  load(library, "cublasLtMatmulAlgoGetHeuristic", b.heuristic);
  load(library, "cublasLtGetVersion", b.version);
  return b;
}

}  // namespace

const BlasLibrary& blas_library() {
  static const BlasLibrary library = load_all();
  return library;
}

void check_blas(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  fail<DeviceError>("matmul", "{} failed with cuBLAS status {}", what, static_cast<int>(status));
}

cublasLtHandle_t blas_handle(int device) {
  static std::mutex mutex;
  static std::map<int, cublasLtHandle_t> handles;
  const std::lock_guard lock(mutex);
  cublasLtHandle_t& handle = handles[device];
  if (handle == nullptr) {
    const DeviceGuard guard(device);
    check_blas(blas_library().create(&handle), "cublasLtCreate");
  }
  return handle;
}

}  // namespace trinix::cuda
