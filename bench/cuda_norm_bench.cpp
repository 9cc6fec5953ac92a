// Normalisation on a CUDA card in bf16, forward and backward with the gradients of the parameters.
//
//   bench_cuda_norm [--json FILE] [--only rms_norm,...]; bench/peers/torch_norm.py times the same in PyTorch and
//   compares
//
// Large tensors (64 MB and more) go straight to the kernels; "of_copy" is the rate at which the least bytes moved over
// that of a copy measured first: forward 2 tensors, 4 with the residual addition; backward 3, 4 with the residual's
// gradient, 5 with dropout of the branch. Small tensors go through the public functions, so that their time is that of
// a call. Inputs take turns among buffers that together exceed the L2 cache.
#include "measure.h"

#include <cstring>
#include <functional>

#include <trinix/core/ops/layer_norm.h>
#include <trinix/core/ops/rms_norm.h>
#include <trinix/trinix.h>

namespace trinix::bench {
namespace {

const Device kCard = Device::cuda();

struct NormOp {
  const char* name;
  bool adds;
  double dropout;
  bool has_mean;
  Activation activation;
  /// The kernel's record: forward and backward.
  std::pair<void (*)(const NormForward&, const Stream&), void (*)(const NormBackward&, const Stream&)> (*kernel)(
      const NormForward&);
};

template <class Op>
auto kernel_of(const NormForward& args) {
  const auto* impl = KernelTable<Op>::instance().select(args, kCard, true, Kernel::fused);
  return std::pair{impl->forward, impl->backward};
}

const NormOp kOps[] = {
    {"rms_norm", false, 0, false, {}, kernel_of<RmsNorm>},
    {"layer_norm", false, 0, true, {}, kernel_of<LayerNorm>},
    {"add_rms_norm", true, 0, false, {}, kernel_of<AddRmsNorm>},
    {"add_layer_norm", true, 0, true, {}, kernel_of<AddLayerNorm>},
    {"add_layer_norm_dropout", true, 0.1, true, {}, kernel_of<AddLayerNorm>},
    {"rms_norm_silu", false, 0, false, Activation::silu, kernel_of<RmsNormActivation>},
};

Tensor random(const Shape& shape) { return randn(shape, {DType::bf16, kCard}); }

/// One set of tensors; the statistics are those of its own forward.
struct Buffers {
  Tensor x, branch, sum, y, dy, dsum, dx, dbranch;
  Tensor mean, rstd;
};

Buffers make_buffers(const NormOp& op, std::int64_t rows, std::int64_t columns) {
  const Shape shape = {rows, columns};
  const TensorOptions bf16{DType::bf16, kCard}, f32{DType::f32, kCard};
  Buffers b{.x = random(shape), .y = empty(shape, bf16), .dy = random(shape), .dx = empty(shape, bf16)};
  if (op.adds) {
    b.branch = random(shape);
    b.sum = empty(shape, bf16);
    b.dsum = random(shape);
  }
  if (op.dropout > 0) b.dbranch = empty(shape, bf16);
  if (op.has_mean) b.mean = empty({rows}, f32);
  b.rstd = empty({rows}, f32);
  return b;
}

View view_of(const Tensor& t) { return t.defined() ? t.raw() : View{}; }

NormForward forward_args(const NormOp& op, const Buffers& b, const Tensor& weight, const Tensor& bias) {
  return {.x = b.x.raw(),
          .branch = view_of(b.branch),
          .weight = weight.raw(),
          .bias = view_of(bias),
          .sum = view_of(b.sum),
          .y = b.y.raw(),
          .mean = view_of(b.mean),
          .rstd = b.rstd.raw(),
          .eps = 1e-6,
          .dropout = op.dropout,
          .random = {1, 0, nullptr},
          .activation = op.activation};
}

NormBackward backward_args(const NormOp& op, const Buffers& b, const Tensor& weight, const Tensor& bias,
                           const Tensor& dweight, const Tensor& dbias) {
  return {.s = op.adds ? b.sum.raw() : b.x.raw(),
          .weight = weight.raw(),
          .bias = view_of(bias),
          .mean = view_of(b.mean),
          .rstd = b.rstd.raw(),
          .dsum = view_of(b.dsum),
          .dy = b.dy.raw(),
          .dx = b.dx.raw(),
          .dbranch = view_of(b.dbranch),
          .dweight = dweight.raw(),
          .dbias = view_of(dbias),
          .dropout = op.dropout,
          .random = {1, 0, nullptr},
          .activation = op.activation};
}

std::string workload(const NormOp& op, const char* direction, std::int64_t rows, std::int64_t columns) {
  return std::string(op.name) + " " + direction + " " + std::to_string(rows) + "x" + std::to_string(columns);
}

/// Bytes per second of a copy of 256 MB, read and written.
double measure_copy() {
  const Tensor from = random({16384, 8192});
  const Tensor to = empty(from.shape(), {DType::bf16, kCard});
  const Seconds s = measure(kCard, {.iterations = 20, .runs = 10}, [&](int) { to.copy_(from); });
  return 2.0 * 2.0 * static_cast<double>(from.numel()) / s.median;
}

void large(const NormOp& op, std::int64_t rows, std::int64_t columns, double copy, Report& report) {
  const double tensor = 2.0 * static_cast<double>(rows * columns);
  const int sets = static_cast<int>(std::clamp(200e6 / tensor, 1.0, 8.0));
  std::vector<Buffers> buffers;
  for (int i = 0; i < sets; ++i) buffers.push_back(make_buffers(op, rows, columns));
  const Tensor weight = random({columns}), dweight = random({columns});
  const Tensor bias = op.has_mean ? random({columns}) : Tensor(), dbias = op.has_mean ? random({columns}) : Tensor();
  const Stream stream = stream_of(kCard);
  const auto [forward, backward] = op.kernel(forward_args(op, buffers[0], weight, bias));
  const auto turn = [&](int i) -> const Buffers& { return buffers[static_cast<std::size_t>(i % sets)]; };
  const auto time = [&](const char* direction, double tensors, const std::function<void(int)>& work) {
    const int iterations = static_cast<int>(std::clamp(3e-3 / (tensors * tensor / copy), 4.0, 100.0));
    const Seconds s = measure(kCard, {.iterations = iterations, .warm_up = 8, .runs = 10}, work);
    const double rate = tensors * tensor / s.median;
    report.add(workload(op, direction, rows, columns), "kernel", s,
               {{"gb_per_s", rate / 1e9}, {"of_copy", rate / copy}});
  };
  time("forward", op.adds ? 4 : 2,
       [&, &forward = forward](int i) { forward(forward_args(op, turn(i), weight, bias), stream); });
  time(
      "backward",
      op.dropout > 0 ? 5
      : op.adds      ? 4
                     : 3,
      [&, &backward = backward](int i) { backward(backward_args(op, turn(i), weight, bias, dweight, dbias), stream); });
}

/// A call of the public function; with backward, the gradients of all inputs.
void small(const NormOp& op, std::int64_t rows, std::int64_t columns, Report& report) {
  Tensor x = random({rows, columns}).requires_grad_(), branch = random({rows, columns}).requires_grad_();
  Tensor weight = random({columns}).requires_grad_(), bias = random({columns}).requires_grad_();
  const Tensor dy = random({rows, columns});
  const auto call = [&] {
    const std::string name = op.name;
    if (name == "rms_norm") return rms_norm(x, weight);
    if (name == "layer_norm") return layer_norm(x, weight, bias);
    if (name == "add_rms_norm") return add_rms_norm(x, branch, weight).second;
    if (name == "add_layer_norm") return add_layer_norm(x, branch, weight, bias).second;
    if (name == "rms_norm_silu") return rms_norm_activation(x, weight, {}, Activation::silu);
    return add_layer_norm(x, branch, weight, bias, 1e-5, {}, {.p = op.dropout}).second;
  };
  const MeasureOptions options{.iterations = 200, .warm_up = 20, .runs = 10};
  {
    const NoGrad no_grad;
    report.add(workload(op, "forward", rows, columns), "call",
               measure(kCard, options, [&](int) { static_cast<void>(call()); }));
  }
  const Seconds both = measure(kCard, options, [&](int) {
    for (Tensor* t : {&x, &branch, &weight, &bias}) t->zero_grad();
    call().backward(dy);
  });
  report.add(workload(op, "both", rows, columns), "call", both);
}

int run(int argc, char** argv) {
  std::string json, only;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--json") == 0) json = argv[i + 1];
    if (std::strcmp(argv[i], "--only") == 0) only = std::string(",") + argv[i + 1] + ",";
  }
  if (!is_available(kCard)) {
    std::fprintf(stderr, "bench_cuda_norm: needs a CUDA card, and this machine has none\n");
    return 1;
  }
  Report report;
  const double copy = measure_copy();
  std::printf("copy: %.0f GB/s\n", copy / 1e9);
  for (const NormOp& op : kOps) {
    if (!only.empty() && only.find(std::string(",") + op.name + ",") == std::string::npos) continue;
    for (const std::int64_t columns : {256, 512, 768, 1024, 1536, 2048, 3072, 4096, 5120, 8192, 12288, 16384}) {
      large(op, (std::int64_t{1} << 25) / columns, columns, copy, report);
    }
    large(op, 16384, 768, copy, report);
    large(op, 16384, 8192, copy, report);
    for (const auto& [rows, columns] : {std::pair{64, 768}, {1024, 768}, {256, 4096}}) small(op, rows, columns, report);
  }
  return json.empty() || report.write(json, backend_of(kCard).describe(kCard.index)) ? 0 : 1;
}

}  // namespace
}  // namespace trinix::bench

int main(int argc, char** argv) { return trinix::bench::run(argc, argv); }
