#include <trinix/autograd/ops/indexing.h>
#include <trinix/autograd/record.h>
#include <trinix/core/detail/fail.h>
#include <trinix/core/error.h>
#include <trinix/core/ops/triangle.h>

namespace trinix {

namespace {

void write_triangle(const Tensor& x, const Tensor& y, std::int64_t diagonal, bool upper) {
  if (x.numel() == 0) return;
  run<Triangle>({.x = x.raw(), .y = y.raw(), .diagonal = diagonal, .upper = upper}, x.device());
}

Tensor triangle(const char* op, const Tensor& x, std::int64_t diagonal, bool upper) {
  if (x.rank() < 2) {
    detail::fail<ShapeError>(op, "takes a matrix or a batch of them, got a tensor of shape {}", x.shape());
  }
  const Tensor y = empty_like(x);
  write_triangle(x, y, diagonal, upper);
  return record(op, y, {x}, {}, [diagonal, upper](BackwardContext& ctx) {
    const Tensor dx = empty_like(ctx.grad());
    write_triangle(ctx.grad(), dx, diagonal, upper);
    ctx.give(0, dx);
  });
}

}  // namespace

Tensor tril(const Tensor& x, std::int64_t diagonal) { return triangle("tril", x, diagonal, false); }
Tensor triu(const Tensor& x, std::int64_t diagonal) { return triangle("triu", x, diagonal, true); }

}  // namespace trinix
