#include <algorithm>

#include <trinix/backends/cuda/blas/product.h>
#include <trinix/backends/cuda/scratch.h>
#include <trinix/backends/matmul_geometry.h>
#include <trinix/core/ops/copy.h>
#include <trinix/core/ops/elementwise.h>
#include <trinix/core/ops/fill.h>
#include <trinix/core/ops/matmul.h>

namespace trinix::cuda {

namespace {

/// A dense tensor for the time of one call.
class Temporary {
 public:
  Temporary(const Shape& shape, DType dtype, const Stream& stream)
      : memory_(static_cast<std::size_t>(numel(shape)) * size_of(dtype), stream),
        view_{memory_.as<void>(), dtype, stream.device, shape, contiguous_strides(shape), true} {}
  [[nodiscard]] const View& view() const { return view_; }

 private:
  Scratch memory_;
  View view_;
};

/// Whether cuBLASLt can read the matrix where it lies; fills in how.
bool in_place_matrix(const MatrixGeometry& g, std::int64_t rows, std::int64_t columns, Matrix& matrix) {
  if ((g.col == 1 || columns == 1) && (g.row >= columns || rows == 1)) {
    matrix.ld = rows == 1 ? std::max<std::int64_t>(columns, 1) : g.row;
    matrix.transposed = false;
    return true;
  }
  if ((g.row == 1 || rows == 1) && (g.col >= rows || columns == 1)) {
    matrix.ld = columns == 1 ? std::max<std::int64_t>(rows, 1) : g.col;
    matrix.transposed = true;
    return true;
  }
  return false;
}

void add_bias(const Matmul::Forward& args) {
  View bias = args.bias;
  bias.shape = args.out.shape;
  bias.strides = Strides::filled(args.out.rank(), 0);
  bias.strides[args.out.rank() - 1] = args.bias.stride(0);
  trinix::run<Binary>({.fn = BinaryFn::add, .x = args.out, .y = bias, .z = args.out}, args.out.device);
}

/// A product over nothing is zero.
void multiply_nothing(const Matmul::Forward& args) {
  if (!args.accumulate) trinix::run<Fill>({.out = args.out, .value = 0}, args.out.device);
  if (args.bias.defined) add_bias(args);
}

void matmul_forward(const Matmul::Forward& args, const Stream& stream);

/// Runs with `operand` of the arguments replaced by a row-major copy.
void with_dense_copy(const Matmul::Forward& args, View Matmul::Forward::*operand, const Stream& stream) {
  Matmul::Forward replaced = args;
  const Temporary copy((args.*operand).shape, (args.*operand).dtype, stream);
  trinix::run<Copy>({.from = args.*operand, .to = copy.view()}, stream.device);
  replaced.*operand = copy.view();
  matmul_forward(replaced, stream);
}

void with_dense_out(const Matmul::Forward& args, const Stream& stream) {
  Matmul::Forward replaced = args;
  const Temporary out(args.out.shape, args.out.dtype, stream);
  replaced.out = out.view();
  replaced.accumulate = false;
  matmul_forward(replaced, stream);
  trinix::run<Copy>({.from = out.view(), .to = args.out, .accumulate = args.accumulate}, stream.device);
}

/// The product with the sums of a's rows, in one pass where that is faster than in two.
void multiply_and_sum(Product fused, const Matmul::Forward& args, const Stream& stream) {
  const auto separate = [&] {
    Product plain = fused;
    plain.epilogue = Epilogue::none;
    plain.sums = nullptr;
    multiply(plain, stream);
    run_row_sums(args);
  };
  if (epilogue_pays(fused, separate, stream)) return multiply(fused, stream);
  separate();
}

void matmul_forward(const Matmul::Forward& args, const Stream& stream) {
  if (args.out.numel() == 0) return run_row_sums(args);
  if (args.a.size(-1) == 0) {
    run_row_sums(args);
    return multiply_nothing(args);
  }
  const MatmulGeometry g = matmul_geometry(args);
  Product p{.m = g.m, .n = g.n, .k = g.k, .dtype = args.out.dtype, .accumulate = args.accumulate};
  if (!in_place_matrix(g.a, g.m, g.k, p.a)) return with_dense_copy(args, &Matmul::Forward::a, stream);
  if (!in_place_matrix(g.b, g.k, g.n, p.b)) return with_dense_copy(args, &Matmul::Forward::b, stream);
  if (!in_place_matrix(g.out, g.m, g.n, p.out) || p.out.transposed) return with_dense_out(args, stream);
  // cuBLASLt has no bias epilogue in f64, and a bias with gaps is no bias to it.
  const bool fused_bias = args.bias.defined && args.out.dtype != DType::f64 && args.bias.stride(0) == 1;
  if (fused_bias) p.bias = args.bias.data;
  if (args.row_sums.defined && !args.accumulate_row_sums && !args.bias.defined && g.batch.size() == 0) {
    p.a.data = args.a.data;
    p.b.data = args.b.data;
    p.out.data = args.out.data;
    p.epilogue = Epilogue::row_sums;
    p.sums = args.row_sums.data;
    return multiply_and_sum(p, args, stream);
  }
  run_row_sums(args);
  const int batch_dims = g.batch.size();
  std::int64_t outer = g.count();
  if (batch_dims > 0) {
    const int last = batch_dims - 1;
    p.batch = g.batch[last];
    p.a.batch_stride = g.a_batch[last];
    p.b.batch_stride = g.b_batch[last];
    p.out.batch_stride = g.out_batch[last];
    outer /= p.batch;
  }
  const auto bytes = static_cast<std::int64_t>(size_of(args.out.dtype));
  for (std::int64_t i = 0; i < outer; ++i) {
    const auto at = matmul_offsets(g, i * p.batch);
    p.a.data = args.a.as<char>() + at.a * bytes;
    p.b.data = args.b.as<char>() + at.b * bytes;
    p.out.data = args.out.as<char>() + at.out * bytes;
    multiply(p, stream);
  }
  if (args.bias.defined && !fused_bias) add_bias(args);
}

const char* why_not(const Matmul::Forward& args, bool) {
  return is_floating(args.out.dtype) ? nullptr : "takes floating-point tensors only";
}

}  // namespace

void register_matmul() {
  register_kernel<Matmul>({"cublaslt", Kernel::fused, DeviceType::cuda, 0, why_not, matmul_forward, nullptr});
}

}  // namespace trinix::cuda
