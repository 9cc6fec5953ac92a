// GatedUnit. The forward reads two values and writes one; the backward reads three, computes the activation again and
// writes two. 16-bit types and odd strides are staged in L1.
#include <trinix/backends/cpu/loops.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/cpu/vector_functions.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/glu_functions.h>

namespace trinix::cpu {

namespace {

template <class F, class C>
void value_row(const C* gate, const C* value, C* y, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) y[i] = F::value(gate[i], {}) * value[i];
}

/// dgate may lie where the gate does, dvalue where the value does.
template <class F, class C>
void gradient_row(const C* gate, const C* value, const C* dy, C* dgate, C* dvalue, std::int64_t n) {
#pragma omp simd
  for (std::int64_t i = 0; i < n; ++i) {
    const auto at = F::both(gate[i]);
    const C d = dy[i];
    dgate[i] = fn::times_slope(d * value[i], at.slope);
    dvalue[i] = d * at.value;
  }
}

void glu_forward(const GatedUnit::Forward& args, const Stream&) {
  const Walk<3> w = make_walk<3>({&args.y, &args.gate, &args.value});
  dispatch_floating(args.y.dtype, "glu", [&]<class T>() {
    using C = compute_t<T>;
    fn::visit_gate<VectorMath>(args.kind, [&]<class F>() {
      const std::int64_t sy = w.inner_stride(0), sg = w.inner_stride(1), sv = w.inner_stride(2);
      for_each_row(w, F::kCost + 1, [&](const auto& offsets, std::int64_t n) {
        T* y = args.y.as<T>() + offsets[0];
        const T* gate = args.gate.as<T>() + offsets[1];
        const T* value = args.value.as<T>() + offsets[2];
        if constexpr (std::is_same_v<T, C>) {
          if (sy == 1 && sg == 1 && sv == 1) return value_row<F>(gate, value, y, n);
        }
        C gates[kStage], values[kStage], out[kStage];
        for (std::int64_t i = 0; i < n; i += kStage) {
          const std::int64_t m = std::min(kStage, n - i);
          value_row<F>(staged(gate + i * sg, sg, m, gates), staged(value + i * sv, sv, m, values), out, m);
          store_stage(y + i * sy, sy, out, m);
        }
      });
    });
  });
}

void glu_backward(const GatedUnit::Backward& args, const Stream&) {
  // A gradient that is not wanted is computed into a stage and left there: it takes no place in the walk.
  const View& dgate_view = args.dgate.defined ? args.dgate : args.dvalue;
  const View& dvalue_view = args.dvalue.defined ? args.dvalue : args.dgate;
  const Walk<5> w = make_walk<5>({&dgate_view, &dvalue_view, &args.dy, &args.gate, &args.value});
  dispatch_floating(args.dy.dtype, "glu", [&]<class T>() {
    using C = compute_t<T>;
    fn::visit_gate<VectorMath>(args.kind, [&]<class F>() {
      std::array<std::int64_t, 5> s;
      for (int v = 0; v < 5; ++v) s[static_cast<std::size_t>(v)] = w.inner_stride(v);
      const bool direct = args.dgate.defined && args.dvalue.defined && s == std::array<std::int64_t, 5>{1, 1, 1, 1, 1};
      for_each_row(w, F::kCost + 3, [&](const auto& offsets, std::int64_t n) {
        const T* dy = args.dy.as<T>() + offsets[2];
        const T* gate = args.gate.as<T>() + offsets[3];
        const T* value = args.value.as<T>() + offsets[4];
        T* dgate = dgate_view.as<T>() + offsets[0];
        T* dvalue = dvalue_view.as<T>() + offsets[1];
        if constexpr (std::is_same_v<T, C>) {
          if (direct) return gradient_row<F>(gate, value, dy, dgate, dvalue, n);
        }
        C gates[kStage], values[kStage], dys[kStage], gate_out[kStage], value_out[kStage];
        for (std::int64_t i = 0; i < n; i += kStage) {
          const std::int64_t m = std::min(kStage, n - i);
          gradient_row<F>(staged(gate + i * s[3], s[3], m, gates), staged(value + i * s[4], s[4], m, values),
                          staged(dy + i * s[2], s[2], m, dys), gate_out, value_out, m);
          if (args.dgate.defined) store_stage(dgate + i * s[0], s[0], gate_out, m);
          if (args.dvalue.defined) store_stage(dvalue + i * s[1], s[1], value_out, m);
        }
      });
    });
  });
}

}  // namespace

void register_glu() {
  register_kernel<GatedUnit>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, glu_forward, glu_backward});
}

}  // namespace trinix::cpu
