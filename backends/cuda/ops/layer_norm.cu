#include <trinix/backends/cuda/norm.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/add_layer_norm.h>
#include <trinix/core/ops/fill.h>
#include <trinix/core/ops/layer_norm.h>

namespace trinix::cuda {

namespace {

bool aligned16(std::initializer_list<const View*> views) {
  for (const View* v : views) {
    if (v->defined && reinterpret_cast<std::uintptr_t>(v->data) % 16 != 0) return false;
  }
  return true;
}

/// One forward for both ops; views that an op does not have are undefined.
void forward(const View& x, const View& branch, const View& weight, const View& bias, const View& sum, const View& y,
             const View& mean, const View& rstd, double eps, const Stream& stream) {
  if (x.numel() == 0) return;
  const bool aligned = aligned16({&x, &branch, &weight, &bias, &sum, &y});
  dispatch_floating(x.dtype, "layer_norm", [&]<class T>() {
    using C = compute_t<T>;
    const NormForward<T> p{x.as<T>(),    branch.as<T>(), weight.as<T>(), bias.as<T>(), sum.as<T>(),        y.as<T>(),
                           mean.as<C>(), rstd.as<C>(),   x.size(0),      x.size(1),    static_cast<C>(eps)};
    with_row_shape<T>(p.columns, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
      constexpr int kGroups = kRowGroups<kThreads>;
      const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(p.rows, kGroups))),
                              .block = dim3(kThreads, kGroups)};
      launch("layer_norm", norm_forward_kernel<kThreads, kWidth, kVectors, T>, shape, stream, p);
    });
  });
}

/// Memory for the length of one call; the stream orders its reuse.
class Partial {
 public:
  Partial(bool wanted, std::size_t bytes, Device device) : bytes_(bytes), device_(device) {
    if (wanted) data_ = backend_of(device).allocate(bytes, device.index);
  }
  ~Partial() {
    if (data_ != nullptr) backend_of(device_).release(data_, bytes_, device_.index);
  }
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;
  template <class C>
  [[nodiscard]] C* as() const {
    return static_cast<C*>(data_);
  }

 private:
  void* data_ = nullptr;
  std::size_t bytes_;
  Device device_;
};

struct Backward {
  View x;  ///< what was normalised
  View weight;
  View mean;
  View rstd;
  View dsum;
  View dy;
  View dx;
  View dweight;
  View dbias;
  bool add_dweight;
  bool add_dbias;
};

template <class T>
void backward_as(const Backward& a, const Stream& stream) {
  using C = compute_t<T>;
  const std::int64_t rows = a.x.size(0), columns = a.x.size(1);
  const bool aligned = aligned16({&a.x, &a.weight, &a.dsum, &a.dy, &a.dx});
  with_row_shape<T>(columns, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
    constexpr int kGroups = kRowGroups<kThreads>;
    // As many as run at a time: every block costs a partial row.
    const std::int64_t blocks =
        std::min<std::int64_t>(ceil_div(rows, kGroups), multiprocessors(stream) * std::int64_t{kGroups > 1 ? 2 : 4});
    const std::size_t bytes = static_cast<std::size_t>(blocks * columns) * sizeof(C);
    const Partial dweight(a.dweight.defined, bytes, stream.device);
    const Partial dbias(a.dbias.defined, bytes, stream.device);
    const NormBackward<T> p{a.x.as<T>(),  a.weight.as<T>(), a.mean.as<C>(),  a.rstd.as<C>(), a.dsum.as<T>(),
                            a.dy.as<T>(), a.dx.as<T>(),     dweight.as<C>(), dbias.as<C>(),  rows,
                            columns};
    const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads, kGroups)};
    launch("layer_norm", norm_backward_kernel<kThreads, kWidth, kVectors, T>, shape, stream, p);
    if (!a.dweight.defined && !a.dbias.defined) return;
    const NormGradients<T> gradients{
        {dweight.as<C>(), dbias.as<C>()},
        {a.dweight.as<T>(), a.dbias.as<T>()},
        {a.dweight.defined ? a.dweight.stride(0) : 0, a.dbias.defined ? a.dbias.stride(0) : 0},
        {a.add_dweight, a.add_dbias},
        blocks,
        columns};
    const LaunchShape sums{.grid = dim3(static_cast<unsigned>(ceil_div(columns, kWarp)), 2),
                           .block = dim3(kWarp, kPartialThreads)};
    launch("layer_norm", norm_gradients_kernel<T>, sums, stream, gradients);
  });
}

void backward(const Backward& a, const Stream& stream) {
  if (a.x.numel() == 0) {  // sums over no rows
    if (a.dweight.defined && !a.add_dweight) trinix::run<Fill>({.out = a.dweight, .value = 0}, stream.device);
    if (a.dbias.defined && !a.add_dbias) trinix::run<Fill>({.out = a.dbias, .value = 0}, stream.device);
    return;
  }
  dispatch_floating(a.x.dtype, "layer_norm", [&]<class T>() { backward_as<T>(a, stream); });
}

void layer_norm_forward(const LayerNorm::Forward& a, const Stream& stream) {
  forward(a.x, {}, a.weight, a.bias, {}, a.y, a.mean, a.rstd, a.eps, stream);
}
void layer_norm_backward(const LayerNorm::Backward& a, const Stream& stream) {
  backward(
      {a.x, a.weight, a.mean, a.rstd, {}, a.dy, a.dx, a.dweight, a.dbias, a.accumulate_dweight, a.accumulate_dbias},
      stream);
}
void add_layer_norm_forward(const AddLayerNorm::Forward& a, const Stream& stream) {
  forward(a.x, a.branch, a.weight, a.bias, a.sum, a.y, a.mean, a.rstd, a.eps, stream);
}
void add_layer_norm_backward(const AddLayerNorm::Backward& a, const Stream& stream) {
  backward({a.sum, a.weight, a.mean, a.rstd, a.dsum, a.dy, a.dx, a.dweight, a.dbias, a.accumulate_dweight,
            a.accumulate_dbias},
           stream);
}

template <class Args>
const char* why_not(const Args& args, bool) {
  return args.x.size(1) <= longest_norm_row(args.x.dtype) ? nullptr
                                                          : "takes rows of at most 8192 elements (4096 in f64)";
}

}  // namespace

void register_layer_norm() {
  register_kernel<LayerNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, why_not<LayerNorm::Forward>,
                              layer_norm_forward, layer_norm_backward});
  register_kernel<AddLayerNorm>({"cuda", Kernel::fused, DeviceType::cuda, 0, why_not<AddLayerNorm::Forward>,
                                 add_layer_norm_forward, add_layer_norm_backward});
}

}  // namespace trinix::cuda
