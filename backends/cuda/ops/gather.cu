#include <trinix/backends/cuda/index_check.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/gather.h>
#include <trinix/core/ops/index_select.h>

namespace trinix::cuda {

namespace {

/// out[...] = x[..., index[...], ...] over views of one shape: 0 is out, 1 the index, 2 x without the dim that the
/// index stands for, of which one step is `jump` elements. A whole vector of out shares one index. Zeros are read where
/// the index is out of range. Floor: out is written once, and as much of x read.
template <int kWidth, class T, class Index>
__global__ void __launch_bounds__(kMapThreads)
    pick_kernel(DeviceWalk<3> walk, std::int64_t vectors, T* out, const Index* index, const T* x, std::int64_t jump,
                std::int64_t size) {
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (kMapThreads * kMapUnroll) + threadIdx.x;
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    const std::int64_t vector = first + u * kMapThreads;
    if (vector >= vectors) return;
    std::int64_t at[3];
    walk.offsets(vector, at);
    const std::int64_t from = index[at[1]];
    Vector<T, kWidth> v{};
    if (inside(from, size)) v = load_vector<kWidth>(x + from * jump + at[2]);
    store_vector(out + at[0], v);
  }
}

/// `index` has out's shape.
void pick(const char* op, const View& x, const View& index, const View& out, int dim, const Stream& stream) {
  if (out.numel() == 0) return;
  View rest = x;
  rest.shape = out.shape;
  rest.strides[dim] = 0;
  const std::array<const View*, 3> views{&out, &index, &rest};
  const auto walk = make_walk<3>(views);
  if (walk.rank > 1 && out.numel() >= (std::int64_t{1} << 32)) {
    trinix::detail::fail<ShapeError>(op, "{} elements are more than a CUDA kernel here can index", out.numel());
  }
  const std::int64_t jump = x.stride(dim);
  dispatch_by_size(out.dtype, [&]<class T>() {
    dispatch_index(index, [&]<class Index>() {
      const auto queue = [&]<int kWidth>() {
        const std::int64_t vectors = walk.inner() / kWidth * walk.rows();
        const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(vectors, kMapThreads * kMapUnroll))),
                                .block = dim3(kMapThreads)};
        launch(op, pick_kernel<kWidth, T, Index>, shape, stream, internal::to_device(walk, kWidth), vectors,
               out.as<T>(), index.as<Index>(), x.as<T>(), jump, x.size(dim));
      };
      constexpr int kWide = kPerAccess<T>;
      const bool whole = walk.inner_stride(1) == 0 && walk.inner_stride(2) == 1 && jump % kWide == 0;
      if (whole && internal::fits_vectors<3>(walk, views, kWide)) {
        queue.template operator()<kWide>();
      } else {
        queue.template operator()<1>();
      }
    });
  });
}

void gather_forward(const Gather::Forward& args, const Stream& stream) {
  pick("gather", args.x, args.index, args.out, args.dim, stream);
}

void index_select_forward(const IndexSelect::Forward& args, const Stream& stream) {
  View index = args.index;  // the same for all elements of a slice
  index.shape = args.out.shape;
  index.strides = Strides::filled(args.out.rank(), 0);
  index.strides[args.dim] = args.index.stride(0);
  pick("index_select", args.x, index, args.out, args.dim, stream);
}

}  // namespace

void register_gather() {
  register_kernel<Gather>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, gather_forward, nullptr});
  register_kernel<IndexSelect>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, index_select_forward, nullptr});
}

}  // namespace trinix::cuda
