#include <trinix/autograd/ops/index_operands.h>
#include <trinix/autograd/ops/operands.h>
#include <trinix/core/backend.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/check_index.h>

namespace trinix {

void check_index_tensor(const char* op, const Tensor& x, const Tensor& index) {
  if (index.dtype() != DType::i64 && index.dtype() != DType::i32) {
    detail::fail<DtypeError>(op, "the index must be i64 or i32, got {} of shape {}; convert it with to()",
                             index.dtype(), index.shape());
  }
  check_same_device(op, x, index);
}

void check_index_values(const char* op, const Tensor& index, std::int64_t size, const char* what) {
  if (index.numel() == 0) return;
  run<CheckIndex>({.op = op, .index = index.raw(), .size = size, .what = what}, index.device());
}

std::pair<Tensor, Tensor> promoted(const char* op, const Tensor& a, const Tensor& b) {
  check_same_device(op, a, b);
  const DType dtype = promote(a.dtype(), b.dtype());
  return {a.to(dtype), b.to(dtype)};
}

GradTarget zeroed_target(BackwardContext& ctx, int i) {
  GradTarget target = ctx.target(i);
  if (!target.accumulate) {
    const std::size_t bytes = static_cast<std::size_t>(target.out.numel()) * size_of(target.out.dtype());
    const Device device = target.out.device();
    if (bytes > 0) backend_of(device).zero(target.out.raw_data(), bytes, stream_of(device));
  }
  return target;
}

}  // namespace trinix
