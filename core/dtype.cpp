#include <trinix/core/detail/fail.h>
#include <trinix/core/dtype.h>
#include <trinix/core/error.h>

namespace trinix {

namespace {
constexpr std::string_view kNames[kDTypes] = {"bool", "u8", "i32", "i64", "f16", "bf16", "f32", "f64"};
}

std::string_view name(DType t) { return kNames[static_cast<int>(t)]; }

DType parse_dtype(std::string_view text) {
  for (int i = 0; i < kDTypes; ++i) {
    if (kNames[i] == text) return static_cast<DType>(i);
  }
  detail::fail<DtypeError>("dtype", "unknown dtype '{}': one of bool, u8, i32, i64, f16, bf16, f32, f64", text);
}

}  // namespace trinix
