#include <trinix/backends/cuda/norm.cuh>
#include <trinix/backends/cuda/reduction.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/add_layer_norm.h>
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
    with_norm_shape<T>(p.columns, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
      const LaunchShape shape{.grid = dim3(static_cast<unsigned>(p.rows)), .block = dim3(kThreads)};
      launch("layer_norm", norm_forward_kernel<kThreads, kWidth, kVectors, T>, shape, stream, p);
    });
  });
}

template <class C>
struct SumOf {
  using State = C;
  __device__ C identity() const { return C(0); }
  __device__ C add(C s, C v, std::int64_t) const { return s + v; }
  __device__ C merge(C a, C b) const { return a + b; }
  __device__ C finish(C s, std::int64_t) const { return s; }
};

/// Sums the partial rows, in their own wide type, into a parameter's gradient.
void finish_column_sums(const View& partial, const View& gradient, bool accumulate, const Stream& stream) {
  View row = gradient;
  row.shape = {1, gradient.shape[0]};
  row.strides = {0, gradient.strides[0]};
  dispatch_floating(gradient.dtype, "layer_norm", [&]<class T>() {
    using C = compute_t<T>;
    reduce<C, T>("layer_norm", SumOf<C>(), partial, row, accumulate, stream);
  });
}

void backward(const View& x, const View& weight, const View& mean, const View& rstd, const View& dsum, const View& dy,
              const View& dx, const View& dweight, const View& dbias, bool add_dweight, bool add_dbias,
              const Stream& stream) {
  if (x.numel() == 0) return;
  const bool aligned = aligned16({&x, &weight, &dsum, &dy, &dx});
  const std::int64_t blocks = std::min<std::int64_t>(x.size(0), multiprocessors(stream) * std::int64_t{4});
  const DType wide = compute_type(x.dtype);
  const std::size_t bytes = static_cast<std::size_t>(blocks * x.size(1)) * size_of(wide);
  Backend& backend = backend_of(stream.device);
  const auto partial_for = [&](const View& gradient) {
    void* data = gradient.defined ? backend.allocate(bytes, stream.device.index) : nullptr;
    return View{data, wide, stream.device, {blocks, x.size(1)}, {x.size(1), 1}, gradient.defined};
  };
  const View partial_dweight = partial_for(dweight);
  const View partial_dbias = partial_for(dbias);
  dispatch_floating(x.dtype, "layer_norm", [&]<class T>() {
    using C = compute_t<T>;
    const NormBackward<T> p{
        x.as<T>(),  weight.as<T>(),          mean.as<C>(),          rstd.as<C>(), dsum.as<T>(), dy.as<T>(),
        dx.as<T>(), partial_dweight.as<C>(), partial_dbias.as<C>(), x.size(0),    x.size(1)};
    with_norm_shape<T>(p.columns, aligned, [&]<int kThreads, int kWidth, int kVectors>() {
      const LaunchShape shape{.grid = dim3(static_cast<unsigned>(blocks)), .block = dim3(kThreads)};
      launch("layer_norm", norm_backward_kernel<kThreads, kWidth, kVectors, T>, shape, stream, p);
    });
  });
  for (const auto& [partial, gradient, add] :
       {std::tuple(&partial_dweight, &dweight, add_dweight), std::tuple(&partial_dbias, &dbias, add_dbias)}) {
    if (!gradient->defined) continue;
    finish_column_sums(*partial, *gradient, add, stream);
    backend.release(partial->data, bytes, stream.device.index);
  }
}

void layer_norm_forward(const LayerNorm::Forward& a, const Stream& stream) {
  forward(a.x, {}, a.weight, a.bias, {}, a.y, a.mean, a.rstd, a.eps, stream);
}
void layer_norm_backward(const LayerNorm::Backward& a, const Stream& stream) {
  backward(a.x, a.weight, a.mean, a.rstd, {}, a.dy, a.dx, a.dweight, a.dbias, a.accumulate_dweight, a.accumulate_dbias,
           stream);
}
void add_layer_norm_forward(const AddLayerNorm::Forward& a, const Stream& stream) {
  forward(a.x, a.branch, a.weight, a.bias, a.sum, a.y, a.mean, a.rstd, a.eps, stream);
}
void add_layer_norm_backward(const AddLayerNorm::Backward& a, const Stream& stream) {
  backward(a.sum, a.weight, a.mean, a.rstd, a.dsum, a.dy, a.dx, a.dweight, a.dbias, a.accumulate_dweight,
           a.accumulate_dbias, stream);
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
