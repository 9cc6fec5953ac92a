// GatedUnit. Floors: forward two reads and one write of a half, backward three reads and two writes; the activation is
// computed again and nothing is saved. The halves of a packed tensor are walked in two dims, whole accesses at a time.
//
// What lies in whole accesses has a kernel per activation; everything else shares one in which it is chosen as it runs.
#include <trinix/backends/cuda/device/math.cuh>
#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/glu_functions.h>

namespace trinix::cuda {

namespace {

/// Any activation, chosen at run time.
template <class M, class C>
struct AnyGate {
  Glu kind;

  __device__ C value(C x) const {
    C y = 0;
    fn::visit_gate<M>(kind, ValueOf{x, y});
    return y;
  }
  __device__ fn::ValueAndSlope<C> both(C x) const {
    fn::ValueAndSlope<C> y{0, 0};
    fn::visit_gate<M>(kind, BothOf{x, y});
    return y;
  }

  struct ValueOf {
    C x;
    C& y;
    template <class F>
    constexpr void operator()() {
      y = F::value(x, {});
    }
  };
  struct BothOf {
    C x;
    fn::ValueAndSlope<C>& y;
    template <class F>
    constexpr void operator()() {
      y = F::both(x);
    }
  };
};

/// One activation.
template <class F, class M, class C>
struct Gate {
  AnyGate<M, C> any;
  __device__ C value(C x) const { return F::value(x, {}); }
  __device__ fn::ValueAndSlope<C> both(C x) const { return F::both(x); }
};

/// act(gate) * value, for map().
template <class G, class C>
struct Gated {
  G gate;
  __device__ C operator()(C x, C value) const { return gate.value(x) * value; }
  auto strided() const {
    if constexpr (requires { gate.any; }) {
      return Gated<decltype(gate.any), C>{gate.any};
    } else {
      return *this;
    }
  }
};

template <class T>
struct GluPointers {
  const T* gate;
  const T* value;
  const T* dy;
  T* dgate;  ///< null where it is not wanted, as the next
  T* dvalue;
};

/// Views of the walk: dgate, dvalue, dy, gate, value. All is read before anything is written.
template <int kVector, class T, class G>
__global__ void __launch_bounds__(kMapThreads)
    glu_backward_kernel(DeviceWalk<5> walk, std::int64_t vectors, G g, GluPointers<T> p) {
  using C = compute_t<T>;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * (kMapThreads * kMapUnroll) + threadIdx.x;
  std::int64_t at[kMapUnroll][5];
  Vector<T, kVector> gate[kMapUnroll], value[kMapUnroll], dy[kMapUnroll];
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    const std::int64_t vector = first + u * kMapThreads;
    if (vector >= vectors) break;
    walk.offsets(vector, at[u]);
    dy[u] = load_vector<kVector>(p.dy + at[u][2]);
    gate[u] = load_vector<kVector>(p.gate + at[u][3]);
    value[u] = load_vector<kVector>(p.value + at[u][4]);
  }
#pragma unroll
  for (int u = 0; u < kMapUnroll; ++u) {
    if (first + u * kMapThreads >= vectors) return;
    Vector<T, kVector> dgate, dvalue;
#pragma unroll
    for (int k = 0; k < kVector; ++k) {
      const C d = widen(dy[u].at[k]);
      const auto act = g.both(widen(gate[u].at[k]));
      dgate.at[k] = narrow_to<T>(fn::times_slope(d * widen(value[u].at[k]), act.slope));
      dvalue.at[k] = narrow_to<T>(d * act.value);
    }
    if (p.dgate != nullptr) store_vector(p.dgate + at[u][0], dgate);
    if (p.dvalue != nullptr) store_vector(p.dvalue + at[u][1], dvalue);
  }
}

/// Calls f with the gate of the call: specialised for 16 and 32-bit floats.
template <class T, class F>
void with_gate(Glu kind, F f) {
  using C = compute_t<T>;
  using M = std::conditional_t<sizeof(T) == 2, NarrowMath, DeviceMath>;
  const AnyGate<M, C> any{kind};
  if constexpr (std::is_same_v<C, float>) {
    fn::visit_gate<M>(kind, [&]<class Function>() { f(Gate<Function, M, C>{any}); });
  } else {
    f(any);
  }
}

void glu_forward(const GatedUnit::Forward& args, const Stream& stream) {
  dispatch_floating(args.y.dtype, "glu", [&]<class T>() {
    with_gate<T>(args.kind, [&]<class G>(const G& gate) {
      map<T, T, T>("glu", stream, Gated<G, compute_t<T>>{gate}, {&args.y, &args.gate, &args.value});
    });
  });
}

template <int kVector, class T, class G>
void launch_backward(const Walk<5>& w, const GluPointers<T>& p, const G& gate, const Stream& stream) {
  const std::int64_t vectors = w.inner() / kVector * w.rows();
  const LaunchShape shape{.grid = dim3(static_cast<unsigned>(ceil_div(vectors, kMapThreads * kMapUnroll))),
                          .block = dim3(kMapThreads)};
  launch("glu", glu_backward_kernel<kVector, T, G>, shape, stream, internal::to_device(w, kVector), vectors, gate, p);
}

void glu_backward(const GatedUnit::Backward& args, const Stream& stream) {
  // A gradient that is not wanted is not written; in the walk the other stands in for it.
  const std::array<const View*, 5> views{args.dgate.defined ? &args.dgate : &args.dvalue,
                                         args.dvalue.defined ? &args.dvalue : &args.dgate, &args.dy, &args.gate,
                                         &args.value};
  const auto w = make_walk<5>(views);
  internal::check_indexable("glu", w.rank, w.inner() * w.rows());
  dispatch_floating(args.dy.dtype, "glu", [&]<class T>() {
    const GluPointers<T> p{args.gate.as<T>(), args.value.as<T>(), args.dy.as<T>(),
                           args.dgate.defined ? args.dgate.as<T>() : nullptr,
                           args.dvalue.defined ? args.dvalue.as<T>() : nullptr};
    bool dense = true;  // no input is repeated: this kernel reads vectors only
    for (int v = 0; v < 5; ++v) dense = dense && w.inner_stride(v) == 1;
    with_gate<T>(args.kind, [&]<class G>(const G& gate) {
      if (dense && internal::fits_vectors<5>(w, views, kPerAccess<T>)) {
        launch_backward<kPerAccess<T>, T>(w, p, gate, stream);
      } else if constexpr (requires { gate.any; }) {
        launch_backward<1, T>(w, p, gate.any, stream);
      } else {
        launch_backward<1, T>(w, p, gate, stream);
      }
    });
  });
}

}  // namespace

void register_glu() {
  register_kernel<GatedUnit>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, glu_forward, glu_backward});
}

}  // namespace trinix::cuda
