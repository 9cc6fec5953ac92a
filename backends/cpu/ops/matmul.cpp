#include <algorithm>

#include <trinix/backends/cpu/gemm/address.h>
#include <trinix/backends/cpu/gemm/gemm.h>
#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/matmul_geometry.h>
#include <trinix/core/ops/matmul.h>

namespace trinix::cpu {

namespace {

using internal::advance;

struct Batch {
  GemmArgs first;
  MatmulGeometry geometry;
};

/// Product `index` of a batch.
GemmArgs product(const void* context, std::int64_t index) {
  const Batch& batch = *static_cast<const Batch*>(context);
  const MatmulOffsets at = matmul_offsets(batch.geometry, index);
  GemmArgs args = batch.first;
  args.a.data = advance(args.a.data, at.a, args.a.dtype);
  args.b.data = advance(args.b.data, at.b, args.b.dtype);
  args.c.data = advance(args.c.data, at.out, args.c.dtype);
  return args;
}

Batch batch_of(const Matmul::Forward& args) {
  const MatmulGeometry g = matmul_geometry(args);
  const GemmArgs first{.m = g.m,
                       .n = g.n,
                       .k = g.k,
                       .a = {args.a.data, args.a.dtype, g.a.row, g.a.col},
                       .b = {args.b.data, args.b.dtype, g.b.row, g.b.col},
                       .c = {args.out.data, args.out.dtype, g.out.row, g.out.col},
                       .accumulate = args.accumulate,
                       .bias = args.bias.defined ? args.bias.data : nullptr};
  return {first, g};
}

const char* why_not_packed(const Matmul::Forward& args, bool) {
  if (args.out.dtype == DType::f64) return "computes in f32, the operands are f64";
  if (args.bias.defined && args.bias.size(0) > 1 && args.bias.stride(0) != 1) return "wants the bias in one piece";
  return nullptr;
}

const char* why_not_eigen(const Matmul::Forward& args, bool) {
  if (args.out.dtype != DType::f32 && args.out.dtype != DType::f64) return "takes f32 and f64 only";
  if (args.bias.defined && args.bias.size(0) > 1 && args.bias.stride(0) != 1) return "wants the bias in one piece";
  return nullptr;
}

void packed_forward(const Matmul::Forward& args, const Stream&) {
  run_row_sums(args);
  const Batch batch = batch_of(args);
  const MatmulGeometry& g = batch.geometry;
  switch (g.batch.size()) {
    case 0:
      return gemm(batch.first);
    case 1:
      return gemm_batched(batch.first, g.batch[0], {g.a_batch[0], g.b_batch[0], g.out_batch[0]});
    default:
      return gemm_batched(batch.first, g.count(), product, &batch);
  }
}

void eigen_forward(const Matmul::Forward& args, const Stream&) {
  run_row_sums(args);
  const Batch batch = batch_of(args);
  const MatmulGeometry& g = batch.geometry;
  switch (g.batch.size()) {
    case 0:
      return gemm_eigen(batch.first);
    case 1:
      return gemm_eigen_batched(batch.first, g.batch[0], {g.a_batch[0], g.b_batch[0], g.out_batch[0]});
    default:
      for (std::int64_t i = 0; i < g.count(); ++i) gemm_eigen(product(&batch, i));
  }
}

}  // namespace

void register_matmul() {
  register_kernel<Matmul>({"cpu_packed", Kernel::fused, DeviceType::cpu, 10, why_not_packed, packed_forward, nullptr});
  register_kernel<Matmul>({"cpu_eigen", Kernel::reference, DeviceType::cpu, 0, why_not_eigen, eigen_forward, nullptr});
}

}  // namespace trinix::cpu
