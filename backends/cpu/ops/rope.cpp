// Rope. One pass over the heads of a token, in place or not; tokens are shared out among the threads. Heads of 16-bit
// values and of odd strides are staged in L1.
#include <algorithm>

#include <trinix/backends/cpu/scratch.h>
#include <trinix/backends/cpu/staging.h>
#include <trinix/backends/dispatch.h>
#include <trinix/backends/index.h>
#include <trinix/core/ops/rope.h>

namespace trinix::cpu {

namespace {

/// Turns the pairs of one head. `to` may be `from`.
template <class C, class T>
void turn_half(const T* from, T* to, const C* cos, const C* sin, std::int64_t pairs) {
#pragma omp simd
  for (std::int64_t i = 0; i < pairs; ++i) {
    const C a = widen<C>(from[i]);
    const C b = widen<C>(from[i + pairs]);
    to[i] = narrow<T>(a * cos[i] - b * sin[i]);
    to[i + pairs] = narrow<T>(b * cos[i] + a * sin[i]);
  }
}

template <class C, class T>
void turn_interleaved(const T* from, T* to, const C* cos, const C* sin, std::int64_t pairs) {
#pragma omp simd
  for (std::int64_t i = 0; i < pairs; ++i) {
    const C a = widen<C>(from[2 * i]);
    const C b = widen<C>(from[2 * i + 1]);
    to[2 * i] = narrow<T>(a * cos[i] - b * sin[i]);
    to[2 * i + 1] = narrow<T>(b * cos[i] + a * sin[i]);
  }
}

/// Turns the tokens of one thread.
template <class T>
class Turner {
 public:
  using C = compute_t<T>;

  /// Elements of scratch for `pairs` pairs: cosines, sines and one head.
  static std::int64_t scratch_size(std::int64_t pairs) { return 4 * pairs; }

  Turner(const Rope::Rotation& args, C* scratch)
      : args_(args),
        pairs_(args.cos.size(1)),
        depth_(args.from.size(3)),
        dense_(args.from.stride(3) == 1 && args.to.stride(3) == 1),
        in_place_(args.from.data == args.to.data),
        cos_(scratch),
        sin_(scratch + pairs_),
        head_(scratch + 2 * pairs_) {}

  void turn_token(std::int64_t batch, std::int64_t token) {
    load_angles(position(batch, token));
    const T* from = args_.from.as<T>() + batch * args_.from.stride(0) + token * args_.from.stride(1);
    T* to = args_.to.as<T>() + batch * args_.to.stride(0) + token * args_.to.stride(1);
    for (std::int64_t h = 0; h < args_.from.size(2); ++h) {
      turn_head(from + h * args_.from.stride(2), to + h * args_.to.stride(2));
    }
  }

 private:
  [[nodiscard]] std::int64_t position(std::int64_t batch, std::int64_t token) const {
    const View& p = args_.positions;
    if (!p.defined) return args_.first_position + token;
    const std::int64_t at = batch * p.stride(0) + token * p.stride(1);
    return dispatch_index(p, [&]<class Index>() { return static_cast<std::int64_t>(p.as<Index>()[at]); });
  }

  void load_angles(std::int64_t position) {
    const float* cos = args_.cos.as<float>() + position * pairs_;
    const float* sin = args_.sin.as<float>() + position * pairs_;
    const C sign = args_.inverse ? C(-1) : C(1);
    for (std::int64_t i = 0; i < pairs_; ++i) {
      cos_[i] = static_cast<C>(cos[i]);
      sin_[i] = sign * static_cast<C>(sin[i]);
    }
  }

  template <class E>
  void turn(const E* from, E* to) {
    if (args_.layout == RopeLayout::half) {
      turn_half(from, to, cos_, sin_, pairs_);
    } else {
      turn_interleaved(from, to, cos_, sin_, pairs_);
    }
  }

  void turn_head(const T* from, T* to) {
    const std::int64_t from_step = args_.from.stride(3);
    const std::int64_t to_step = args_.to.stride(3);
    if (dense_) {
      turn(from, to);
    } else {
      load_stage(head_, from, from_step, 2 * pairs_);
      turn(head_, head_);
      store_stage(to, to_step, head_, 2 * pairs_);
    }
    if (in_place_) return;
    for (std::int64_t i = 2 * pairs_; i < depth_; ++i) to[i * to_step] = from[i * from_step];
  }

  const Rope::Rotation& args_;
  std::int64_t pairs_;
  std::int64_t depth_;
  bool dense_;
  bool in_place_;
  C* cos_;
  C* sin_;
  C* head_;
};

void rope_rotate(const Rope::Rotation& args, const Stream&) {
  const std::int64_t length = args.from.size(1);
  const std::int64_t tokens = args.from.size(0) * length;
  const std::int64_t per_token = std::max<std::int64_t>(args.from.size(2) * args.from.size(3), 1);
  dispatch_floating(args.from.dtype, "rope", [&]<class T>() {
    using C = compute_t<T>;
    parallel_for_with_scratch<C>(tokens, kGrain / (2 * per_token), Turner<T>::scratch_size(args.cos.size(1)),
                                 [&](std::int64_t begin, std::int64_t end, C* scratch) {
                                   Turner<T> turner(args, scratch);
                                   for (std::int64_t t = begin; t < end; ++t) turner.turn_token(t / length, t % length);
                                 });
  });
}

}  // namespace

void register_rope() {
  register_kernel<Rope>({"cpu", Kernel::fused, DeviceType::cpu, 0, nullptr, rope_rotate, rope_rotate});
}

}  // namespace trinix::cpu
