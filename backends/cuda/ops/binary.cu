#include <type_traits>

#include <trinix/backends/cuda/map.cuh>
#include <trinix/backends/dispatch.h>
#include <trinix/core/ops/elementwise.h>

namespace trinix::cuda {

namespace {

/// Integers wrap as in NumPy; in unsigned arithmetic that is defined.
template <class C>
using Wrapping = typename std::conditional_t<std::is_integral_v<C>, std::make_unsigned<C>, std::type_identity<C>>::type;

template <BinaryFn kFn>
struct Function {
  template <class C>
  __device__ C operator()(C a, C b) const {
    if constexpr (kFn == BinaryFn::logical_and) {
      return a && b;
    } else if constexpr (kFn == BinaryFn::logical_or) {
      return a || b;
    } else if constexpr (kFn == BinaryFn::logical_xor) {
      return a != b;
    } else if constexpr (kFn == BinaryFn::maximum) {
      return a > b || a != a ? a : b;
    } else if constexpr (kFn == BinaryFn::minimum) {
      return a < b || a != a ? a : b;
    } else if constexpr (kFn == BinaryFn::div) {
      return a / b;
    } else if constexpr (kFn == BinaryFn::pow) {
      return ::pow(a, b);
    } else {
      using W = Wrapping<C>;
      if constexpr (kFn == BinaryFn::add) return static_cast<C>(static_cast<W>(a) + static_cast<W>(b));
      if constexpr (kFn == BinaryFn::sub) return static_cast<C>(static_cast<W>(a) - static_cast<W>(b));
      if constexpr (kFn == BinaryFn::mul) return static_cast<C>(static_cast<W>(a) * static_cast<W>(b));
    }
  }
};

template <Relation kRelation>
struct Holds {
  template <class C>
  __device__ bool operator()(C a, C b) const {
    if constexpr (kRelation == Relation::equal) return a == b;
    if constexpr (kRelation == Relation::not_equal) return a != b;
    if constexpr (kRelation == Relation::less) return a < b;
    if constexpr (kRelation == Relation::less_equal) return a <= b;
    if constexpr (kRelation == Relation::greater) return a > b;
    if constexpr (kRelation == Relation::greater_equal) return a >= b;
  }
};

struct Choose {
  template <class T>
  __device__ T operator()(bool condition, T a, T b) const {
    return condition ? a : b;
  }
};

template <BinaryFn kFn, class T>
void run(const Binary::Forward& args, const Stream& stream) {
  map<T, T, T>("binary", stream, Function<kFn>(), {&args.z, &args.x, &args.y});
}

void binary_forward(const Binary::Forward& args, const Stream& stream) {
  const auto logical = [&]<BinaryFn kFn>() { run<kFn, bool>(args, stream); };
  const auto arithmetic = [&]<BinaryFn kFn>() {
    dispatch_arithmetic(args.x.dtype, "binary", [&]<class T>() { run<kFn, T>(args, stream); });
  };
  const auto floating = [&]<BinaryFn kFn>() {
    dispatch_floating(args.x.dtype, "binary", [&]<class T>() { run<kFn, T>(args, stream); });
  };
  switch (args.fn) {
    case BinaryFn::add:
      return arithmetic.template operator()<BinaryFn::add>();
    case BinaryFn::sub:
      return arithmetic.template operator()<BinaryFn::sub>();
    case BinaryFn::mul:
      return arithmetic.template operator()<BinaryFn::mul>();
    case BinaryFn::div:
      return floating.template operator()<BinaryFn::div>();
    case BinaryFn::pow:
      return floating.template operator()<BinaryFn::pow>();
    case BinaryFn::maximum:
      return arithmetic.template operator()<BinaryFn::maximum>();
    case BinaryFn::minimum:
      return arithmetic.template operator()<BinaryFn::minimum>();
    case BinaryFn::logical_and:
      return logical.template operator()<BinaryFn::logical_and>();
    case BinaryFn::logical_or:
      return logical.template operator()<BinaryFn::logical_or>();
    case BinaryFn::logical_xor:
      return logical.template operator()<BinaryFn::logical_xor>();
  }
}

void compare_forward(const Compare::Forward& args, const Stream& stream) {
  const auto with = [&]<Relation kRelation>() {
    dispatch_all(args.x.dtype, "compare", [&]<class T>() {
      map<bool, T, T>("compare", stream, Holds<kRelation>(), {&args.z, &args.x, &args.y});
    });
  };
  switch (args.relation) {
    case Relation::equal:
      return with.template operator()<Relation::equal>();
    case Relation::not_equal:
      return with.template operator()<Relation::not_equal>();
    case Relation::less:
      return with.template operator()<Relation::less>();
    case Relation::less_equal:
      return with.template operator()<Relation::less_equal>();
    case Relation::greater:
      return with.template operator()<Relation::greater>();
    case Relation::greater_equal:
      return with.template operator()<Relation::greater_equal>();
  }
}

void where_forward(const Where::Forward& args, const Stream& stream) {
  dispatch_by_size(args.z.dtype, [&]<class T>() {
    map<T, bool, T, T>("where", stream, Choose(), {&args.z, &args.condition, &args.x, &args.y});
  });
}

}  // namespace

void register_binary() {
  register_kernel<Binary>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, binary_forward, nullptr});
  register_kernel<Compare>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, compare_forward, nullptr});
  register_kernel<Where>({"cuda", Kernel::fused, DeviceType::cuda, 0, nullptr, where_forward, nullptr});
}

}  // namespace trinix::cuda
