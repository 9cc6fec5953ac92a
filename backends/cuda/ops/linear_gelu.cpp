// LinearGelu as one product with an epilogue, or as a product and a pass over its result: whichever is faster for the
// shapes at hand. On an H200 the epilogue's products run at two thirds of the plain ones' rate for some shapes.
#include <trinix/backends/cuda/blas/product.h>
#include <trinix/core/ops/elementwise.h>
#include <trinix/core/ops/linear_gelu.h>
#include <trinix/core/ops/reduce.h>

namespace trinix::cuda {

namespace {

/// A row-major (rows, columns) matrix without gaps.
Matrix dense(const View& v) { return {.data = v.data, .ld = v.size(1)}; }

void linear_gelu_forward(const LinearGelu::Forward& args, const Stream& stream) {
  Product plain{.m = args.x.size(0), .n = args.w.size(0), .k = args.x.size(1), .dtype = args.y.dtype};
  plain.a = dense(args.x);
  plain.b = dense(args.w);
  plain.b.transposed = true;
  plain.out = dense(args.pre);
  plain.bias = args.bias.defined ? args.bias.data : nullptr;
  Product fused = plain;
  fused.epilogue = Epilogue::gelu;
  fused.out = dense(args.y);
  fused.aux = args.pre.data;
  const auto separate = [&] {
    multiply(plain, stream);
    run<Unary>({.fn = UnaryFn::gelu_tanh, .x = args.pre, .y = args.y}, stream.device);
  };
  if (epilogue_pays(fused, separate, stream)) return multiply(fused, stream);
  separate();
}

void linear_gelu_backward(const LinearGelu::Backward& args, const Stream& stream) {
  Product plain{.m = args.dout.size(0), .n = args.next.size(1), .k = args.dout.size(1), .dtype = args.dpre.dtype};
  plain.a = dense(args.dout);
  plain.b = dense(args.next);
  plain.out = dense(args.dpre);
  Product fused = plain;
  fused.epilogue = Epilogue::gelu_gradient;
  fused.aux = args.pre.data;
  // The epilogue overwrites the sums; those that add are a pass of their own.
  const bool fused_sums = args.dbias.defined && !args.accumulate_dbias;
  if (fused_sums) fused.sums = args.dbias.data;
  const auto sum = [&] {
    View sums = args.dbias;
    sums.shape.insert(0, 1);
    sums.strides.insert(0, sums.shape[1]);
    run<Reduce>({.fn = ReduceFn::sum, .x = args.dpre, .out = sums, .accumulate = args.accumulate_dbias}, stream.device);
  };
  const auto separate = [&] {
    multiply(plain, stream);
    const Unary::Backward gelu{.fn = UnaryFn::gelu_tanh, .saved = args.pre, .dy = args.dpre, .dx = args.dpre};
    KernelTable<Unary>::instance().impls(DeviceType::cuda).front().backward(gelu, stream);
    if (fused_sums) sum();
  };
  if (epilogue_pays(fused, separate, stream)) {
    multiply(fused, stream);
  } else {
    separate();
  }
  if (args.dbias.defined && !fused_sums) sum();
}

const char* why_not(const LinearGelu::Forward& args, bool) {
  return args.y.dtype == DType::f64 ? "takes f32, bf16 and f16; cuBLASLt has no epilogues in f64" : nullptr;
}

}  // namespace

void register_linear_gelu() {
  register_kernel<LinearGelu>(
      {"cublaslt_epilogue", Kernel::fused, DeviceType::cuda, 0, why_not, linear_gelu_forward, linear_gelu_backward});
}

}  // namespace trinix::cuda
