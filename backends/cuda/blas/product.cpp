#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <string_view>
#include <tuple>
#include <vector>

#include <trinix/backends/cuda/blas/library.h>
#include <trinix/backends/cuda/blas/product.h>
#include <trinix/backends/cuda/blas/tuning.h>
#include <trinix/backends/cuda/check.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/tf32.h>

namespace trinix::cuda {

namespace {

cudaDataType_t data_type(DType t) {
  switch (t) {
    case DType::f64:
      return CUDA_R_64F;
    case DType::f32:
      return CUDA_R_32F;
    case DType::bf16:
      return CUDA_R_16BF;
    case DType::f16:
      return CUDA_R_16F;
    default:
      trinix::detail::fail<DtypeError>("matmul", "takes floating-point tensors, got {}", t);
  }
}

/// The largest power of two up to 16 that divides an address: cuBLASLt's kernels differ by it.
std::uint32_t alignment_of(const void* p) {
  const auto address = reinterpret_cast<std::uintptr_t>(p);
  return p == nullptr ? 16 : static_cast<std::uint32_t>(std::min<std::uintptr_t>(16, address & (~address + 1)));
}

bool uses_tf32(const Product& p) { return p.dtype == DType::f32 && is_tf32_allowed(); }

ProductKey key_of(const Product& p, int device) {
  return {device,
          p.m,
          p.n,
          p.k,
          p.batch,
          static_cast<int>(p.dtype),
          p.a.ld,
          p.b.ld,
          p.out.ld,
          p.a.batch_stride,
          p.b.batch_stride,
          p.out.batch_stride,
          p.a.transposed ? 1 : 0,
          p.b.transposed ? 1 : 0,
          p.bias != nullptr ? 1 : 0,
          p.accumulate ? 1 : (p.addend != nullptr ? 2 : 0),
          std::min({alignment_of(p.a.data), alignment_of(p.b.data), alignment_of(p.out.data), alignment_of(p.addend)}),
          std::min(alignment_of(p.bias), alignment_of(p.sums)),
          static_cast<int>(p.epilogue),
          p.sums != nullptr ? 1 : 0,
          uses_tf32(p) ? 1 : 0};
}

cublasLtEpilogue_t epilogue_of(const Product& p) {
  switch (p.epilogue) {
    case Epilogue::gelu:
      return p.bias != nullptr ? CUBLASLT_EPILOGUE_GELU_AUX_BIAS : CUBLASLT_EPILOGUE_GELU_AUX;
    case Epilogue::gelu_gradient:
      return p.sums != nullptr ? CUBLASLT_EPILOGUE_DGELU_BGRAD : CUBLASLT_EPILOGUE_DGELU;
    case Epilogue::row_sums:
      return CUBLASLT_EPILOGUE_BGRADB;  // a goes second, see Plan
    case Epilogue::none:
      break;
  }
  return p.bias != nullptr ? CUBLASLT_EPILOGUE_BIAS : CUBLASLT_EPILOGUE_DEFAULT;
}

/// Descriptors and the chosen algorithm of one kind of product.
///
/// cuBLASLt is column-major. Row-major out = a b is column-major out^T = b^T a^T, so b goes first.
class Plan {
 public:
  Plan(const Product& p, int device) {
    const BlasLibrary& lib = blas_library();
    const bool wide = p.dtype == DType::f64;
    const cudaDataType_t type = data_type(p.dtype);
    const cublasComputeType_t narrow_compute = uses_tf32(p) ? CUBLAS_COMPUTE_32F_FAST_TF32 : CUBLAS_COMPUTE_32F;
    check_blas(lib.desc_create(&desc_, wide ? CUBLAS_COMPUTE_64F : narrow_compute, wide ? CUDA_R_64F : CUDA_R_32F),
               "cublasLtMatmulDescCreate");
    const cublasOperation_t first = p.b.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = p.a.transposed ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, first);
    set(CUBLASLT_MATMUL_DESC_TRANSB, second);
    set(CUBLASLT_MATMUL_DESC_EPILOGUE, epilogue_of(p));
    if (p.bias != nullptr || p.sums != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, type);
    if (p.aux != nullptr) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, p.n);
    set_pointers(p);
    first_ = layout(type, p.b.transposed ? p.k : p.n, p.b.transposed ? p.n : p.k, p.b, p.batch);
    second_ = layout(type, p.a.transposed ? p.m : p.k, p.a.transposed ? p.k : p.m, p.a, p.batch);
    out_ = layout(type, p.n, p.m, p.out, p.batch);
    choose(p, device);
  }

  ~Plan() {
    const BlasLibrary& lib = blas_library();
    for (const auto l : {first_, second_, out_}) lib.layout_destroy(l);
    lib.desc_destroy(desc_);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  void run(const Product& p, const Stream& stream, const cublasLtMatmulAlgo_t* algorithm = nullptr) {
    set_pointers(p);
    const double alpha_wide = p.alpha;
    const double beta_wide = p.addend != nullptr ? p.beta : (p.accumulate ? 1 : 0);
    const auto alpha = static_cast<float>(alpha_wide);
    const auto beta = static_cast<float>(beta_wide);
    const void* const addend = p.addend != nullptr ? p.addend : p.out.data;
    const bool wide = p.dtype == DType::f64;
    const Workspace& workspace = workspace_of(stream.device.index);
    check_blas(blas_library().matmul(blas_handle(stream.device.index), desc_,
                                     wide ? static_cast<const void*>(&alpha_wide) : &alpha, p.b.data, first_, p.a.data,
                                     second_, wide ? static_cast<const void*>(&beta_wide) : &beta, addend, out_,
                                     p.out.data, out_, algorithm != nullptr ? algorithm : &algorithm_, workspace.data,
                                     workspace.bytes, static_cast<cudaStream_t>(stream.native)),
               "cublasLtMatmul");
  }

 private:
  /// What the epilogue reads and writes: the pointers that live in the descriptor.
  void set_pointers(const Product& p) {
    if (p.bias != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.bias);
    if (p.sums != nullptr) set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, p.sums);
    if (p.aux != nullptr) set(CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, p.aux);
  }

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check_blas(blas_library().desc_set(desc_, attribute, &value, sizeof(value)), "cublasLtMatmulDescSetAttribute");
  }

  static cublasLtMatrixLayout_t layout(cudaDataType_t type, std::int64_t rows, std::int64_t columns, const Matrix& m,
                                       std::int64_t batch) {
    const BlasLibrary& lib = blas_library();
    cublasLtMatrixLayout_t l = nullptr;
    check_blas(lib.layout_create(&l, type, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(columns), m.ld),
               "cublasLtMatrixLayoutCreate");
    const auto count = static_cast<std::int32_t>(batch);
    check_blas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof(count)), "batch count");
    check_blas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &m.batch_stride, sizeof(m.batch_stride)),
               "batch stride");
    return l;
  }

  void choose(const Product& p, int device) {
    const BlasLibrary& lib = blas_library();
    cublasLtMatmulPreference_t preference = nullptr;
    check_blas(lib.preference_create(&preference), "cublasLtMatmulPreferenceCreate");
    const std::size_t bytes = workspace_of(device).bytes;
    const auto prefer = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
      check_blas(lib.preference_set(preference, attribute, &value, sizeof(value)),
                 "cublasLtMatmulPreferenceSetAttribute");
    };
    prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, bytes);
    // Where a sum is split, its parts stay in the type that sums are computed in: added up in 16 bits they would be
    // rounded each.
    prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, alignment_of(p.b.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, alignment_of(p.a.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, alignment_of(p.addend != nullptr ? p.addend : p.out.data));
    prefer(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, alignment_of(p.out.data));
    std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(tuning_candidates()));
    int count = 0;
    const cublasStatus_t status = lib.heuristic(blas_handle(device), desc_, first_, second_, out_, out_, preference,
                                                static_cast<int>(found.size()), found.data(), &count);
    lib.preference_destroy(preference);
    if (status != CUBLAS_STATUS_SUCCESS || count == 0) {
      trinix::detail::fail<DeviceError>("matmul", "cuBLASLt has no kernel for ({} x {}) ({} x {}) of {}", p.m, p.k, p.k,
                                        p.n, p.dtype);
    }
    found.resize(static_cast<std::size_t>(count));
    const auto key = key_of(p, device);
    const std::size_t best = tuned_choice(
        key, p, device, found.size(),
        [&](std::size_t i, const Product& trial, const Stream& stream) { run(trial, stream, &found[i].algo); });
    algorithm_ = found[best].algo;
  }

  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatrixLayout_t first_ = nullptr;
  cublasLtMatrixLayout_t second_ = nullptr;
  cublasLtMatrixLayout_t out_ = nullptr;
  cublasLtMatmulAlgo_t algorithm_{};
};

}  // namespace

void multiply(const Product& product, const Stream& stream) {
  static std::mutex mutex;
  static std::map<ProductKey, std::unique_ptr<Plan>> plans;
  const DeviceGuard guard(stream.device.index);
  const std::lock_guard lock(mutex);  // a plan's descriptor holds pointers, so its use must not interleave
  auto& plan = plans[key_of(product, stream.device.index)];
  if (plan == nullptr) plan = std::make_unique<Plan>(product, stream.device.index);
  plan->run(product, stream);
}

bool takes_epilogue(const Product& p) {
  // The auxiliary matrix wants columns in eights and 16-byte addresses; f64 has no epilogues.
  const bool aux_fits = p.aux == nullptr || (p.n % 8 == 0 && alignment_of(p.aux) == 16);
  return p.dtype != DType::f64 && p.batch == 1 && aux_fits;
}

bool epilogue_pays(const Product& product, const std::function<void()>& separate, const Stream& stream) {
  if (!takes_epilogue(product)) return false;
  const char* const setting = std::getenv("TRINIX_MATMUL_EPILOGUES");
  if (setting != nullptr && std::string_view(setting) == "always") return true;
  if (setting != nullptr && std::string_view(setting) == "never") return false;
  if (flops_of(product) < kWorthTuning) return false;
  Product overwriting = product;  // a sum that is measured several times would be no sum
  overwriting.accumulate = false;
  ProductKey key = key_of(overwriting, stream.device.index);
  key[0] = -1 - key[0];  // apart from the choice among kernels for this very product
  const DeviceGuard guard(stream.device.index);
  return tuned_way(key, stream, {separate, [&] { multiply(overwriting, stream); }}, !product.accumulate) == 1;
}

}  // namespace trinix::cuda
